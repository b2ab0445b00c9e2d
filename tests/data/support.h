// What the tests of the data layer share: a folder of their own, small shards, a small trained tokenizer.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "data/sentencepiece.h"
#include "data/shard_writer.h"

namespace polar::test {

namespace fs = std::filesystem;

// A folder that lives as long as the test.
class Folder {
 public:
  Folder() {
    log::set_level(log::Level::error);
    std::string name = (fs::temp_directory_path() / "polar-data-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  fs::path operator/(const fs::path& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

inline void write_text(const fs::path& path, std::string_view text) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
}

// The first `bytes` of Pride and Prejudice.
inline std::string austen(size_t bytes) {
  return read_file(fs::path(POLAR_SOURCE_DIR) / "data/austen/pride_and_prejudice.txt").substr(0, bytes);
}

// A SentencePiece model trained on 100 kB, the same for all tests of the program.
inline std::string small_model(const std::string& type = "bpe") {
  static const Folder folder;
  const fs::path path = folder / (type + ".model");
  if (fs::exists(path)) return path.string();
  write_text(folder / "text.txt", austen(100'000));
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

// Runs `action` and returns the Error it must throw.
template <class Action>
Error error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return Error("");
}

}  // namespace polar::test
