// What the tests of the data layer share: small shards, a small trained tokenizer.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "data/sentencepiece.h"
#include "data/shard_writer.h"
#include "errors.h"
#include "temporary.h"

namespace polar::test {

namespace fs = std::filesystem;

// Messages of less weight would bury what the tests say.
inline const bool quiet = [] {
  log::set_level(log::Level::error);
  return true;
}();

// The first `bytes` of Pride and Prejudice.
inline std::string austen(size_t bytes) {
  return read_file(fs::path(POLAR_SOURCE_DIR) / "data/austen/pride_and_prejudice.txt").substr(0, bytes);
}

// A SentencePiece model trained on 100 kB, the same for all tests of the program.
inline std::string small_model(const std::string& type = "bpe") {
  static const TemporaryDirectory folder;
  const fs::path path = folder / (type + ".model");
  if (fs::exists(path)) return path.string();
  put(folder / "text.txt", austen(100'000));
  SentencePieceTraining training;
  training.inputs = {folder / "text.txt"};
  training.output = path;
  training.vocab_size = 500;
  training.type = type;
  train_sentencepiece(training);
  return path.string();
}

// A shard of `tokens` ids: token t is t mod vocab_size; a document ends every `document` tokens.
inline void write_counting_shard(const fs::path& path, uint64_t tokens, uint64_t vocab_size,
                                 uint64_t document = 1000, uint64_t text_bytes = 0,
                                 const std::string& hash = "") {
  ShardWriter writer(path, vocab_size, hash);
  for (uint64_t t = 0; t < tokens; ++t) {
    const auto id = static_cast<int32_t>(t % vocab_size);
    writer.append({&id, 1}, t == 0 ? text_bytes : 0);
    if ((t + 1) % document == 0) writer.end_document();
  }
  writer.close();
}

}  // namespace polar::test
