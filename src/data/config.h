// What the data section of a configuration says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace polar {

struct DataSource {
  std::string path;     // glob pattern of token shards
  double weight = 1.0;  // relative share of the samples

  bool operator==(const DataSource&) const = default;
};

// How documents become samples of sequence_length tokens.
enum class Packing {
  concatenate,  // the token stream is cut into equal pieces; attention crosses documents
  documents,    // the same pieces, but attention stays inside each document and no token predicts across a
                // border
};

struct DataConfig {
  int64_t sequence_length = 0;
  std::string tokenizer;  // SentencePiece .model, tokenizer.json, "bytes"; empty: token ids only
  std::vector<DataSource> train, validation;
  Packing packing = Packing::concatenate;
  int64_t prefetch_batches = 4;

  bool operator==(const DataConfig&) const = default;
};

}  // namespace polar
