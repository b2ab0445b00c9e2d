// A SentencePiece model as Hugging Face's tokenizer files, so that transformers.AutoTokenizer gives our ids.
#pragma once

#include <filesystem>
#include <map>
#include <string>

namespace polar {

struct HfTokenizer {
  std::map<std::string, std::string> files;  // name -> content: tokenizer.json, tokenizer_config.json
  std::string obstacle;                      // not empty: why tokenizer.json cannot express this model
};

// Reads a SentencePiece .model file. BPE (the merges are rebuilt from the pieces' scores) and unigram models
// can be expressed if they leave the text as it is (no character map, no removal of extra spaces, no dummy
// prefix), which is what `polartrain tokenizer train` makes; of others only the obstacle is reported.
// Known differences: a control token spelled out in the text ("</s>") is read as that token by transformers;
// where a BPE piece can be built in two ways that overlap in the text (runs of one character), SentencePiece
// takes the leftmost, tokenizer.json the one whose parts come first in the vocabulary; where two unigram
// segmentations have the same score, either may be chosen.
// Errors (exit code 2): the file is not a SentencePiece model.
HfTokenizer to_hf_tokenizer(const std::filesystem::path& model);

}  // namespace polar
