// From text to token shards: what `polartrain data prepare` does.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/document_source.h"

namespace polar {

struct PrepareOptions {
  std::vector<std::filesystem::path> inputs;  // .txt, .jsonl, .jsonl.zst, folders
  std::filesystem::path output;               // folder of the shards
  std::string tokenizer;                      // as load_tokenizer() takes it
  TextOptions text;
  uint64_t shard_tokens = 100'000'000;  // a shard is closed at the first document end behind this many tokens
  unsigned threads = 0;                 // 0: all cores
  bool overwrite = false;               // replace an output that an earlier prepare has written
};

struct SplitCounts {
  uint64_t shards = 0, documents = 0, tokens = 0, text_bytes = 0;
};

struct PrepareResult {
  SplitCounts train, validation;
  uint64_t skipped_lines = 0;
};

// Writes train-00000.bin, ..., val-00000.bin, ... and manifest.json (counts, checksums, tokenizer) into
// `output`. The files are the same whatever the number of threads. The folder appears when all is done
// (base/atomic_directory.h): an interruption leaves no half output and no output less, and a second run
// works. Errors (exit code 2): as TextReader's and load_tokenizer's, an output that exists; (exit code 1):
// disk full.
PrepareResult prepare_data(const PrepareOptions& options);

}  // namespace polar
