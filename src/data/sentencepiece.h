// SentencePiece: reading a model, and training one (the library does both; nothing is shelled out).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/document_source.h"
#include "data/tokenizer.h"

namespace polar {

// Error (exit code 2) if the file is not a SentencePiece model.
std::shared_ptr<const Tokenizer> load_sentencepiece(const std::filesystem::path& path);

struct SentencePieceTraining {
  std::vector<std::filesystem::path> inputs;  // as `data prepare` takes them
  TextOptions text;              // as for `data prepare`: what it holds out is not looked at here either
  std::filesystem::path output;  // the .model file
  int64_t vocab_size = 4096;
  std::string type = "bpe";             // bpe | unigram
  double character_coverage = 0.9995;   // share of all characters that get a piece; the others become bytes
  uint64_t sample_bytes = 200'000'000;  // of larger inputs, a fixed sample of lines of about this size
};

// Trains a model whose text comes back exactly: no normalisation, no dummy prefix, byte fallback, the newline
// a piece of its own. Ids: <unk> 0, <s> 1, </s> 2 (ends documents). The same input gives the same file, bit
// for bit. Errors (exit code 2): no text, a vocabulary too small or too large for the text, an unknown type.
void train_sentencepiece(const SentencePieceTraining& training);

}  // namespace polar
