// Models from and to Hugging Face directories: the files beside the weights, and the conversion of a whole
// directory (`polartrain export`, `polartrain import`).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/parameters.h"
#include "checkpoint/store.h"
#include "data/tokenizer.h"
#include "model/config.h"

namespace polar {

// What makes a checkpoint directory load in transformers as it is: config.json, generation_config.json and
// the tokenizer's files (of a SentencePiece model tokenizer.model, tokenizer.json and tokenizer_config.json).
// One thing it cannot reach: AutoTokenizer of transformers 5 takes Qwen2Tokenizer for model_type qwen2
// whatever tokenizer_config.json says; a SentencePiece vocabulary then needs
// PreTrainedTokenizerFast.from_pretrained. `tokenizer` may be null. `sequence_length` stands in for
// max_position_embeddings = 0.
std::vector<SmallFile> hf_files(const ModelConfig& model, const Tokenizer* tokenizer,
                                int64_t sequence_length);

// The head of a tied model, which some directories store a second time.
std::vector<TiedCopy> tied_copies(const ModelConfig& model);

struct Conversion {
  std::filesystem::path source;  // checkpoint, run (its latest valid checkpoint) or HF directory
  std::filesystem::path output;  // must not exist, or be empty
  std::string dtype;             // "float32" or "bfloat16"
};
struct Converted {
  std::filesystem::path source;  // the directory that was read
  ModelConfig model;
  int64_t parameters = 0;
  std::vector<std::string> files;     // written, beside model.safetensors and manifest.json
  std::vector<std::string> warnings;  // what transformers or this program will not take from the output
};
// Reads config.json and the weights (checking every name and shape against the architecture), writes them
// with the tokenizer's files as one directory, atomically. Errors: see read_hf_config, check_parameters.
Converted convert_model(const Conversion& conversion);

}  // namespace polar
