// Writes token shards (the format stands in data/shard.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/shard.h"

namespace polar {

// Writes one shard. The file is complete after close(); a writer destroyed before deletes it.
class ShardWriter {
 public:
  ShardWriter(const std::filesystem::path& path, uint64_t vocab_size, std::string tokenizer_hash);

  // Continues the current document; `text_bytes` is the UTF-8 text that `ids` stand for. Error if an id is
  // outside the vocabulary.
  void append(std::span<const int32_t> ids, uint64_t text_bytes);
  // The next append() begins a new document. A document without tokens leaves no trace.
  void end_document() { in_document_ = false; }
  // Counts so far; complete after close().
  const ShardInfo& info() const { return info_; }
  // Returns the checksum that the header carries.
  std::string close();

 private:
  void write(const void* data, size_t size);
  FileWriter file_;
  Checksum checksum_;
  ShardInfo info_;
  std::vector<uint64_t> document_starts_;
  std::vector<uint16_t> narrow_;  // one append() as 16-bit tokens
  bool in_document_ = false;
};

}  // namespace polar
