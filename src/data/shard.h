// Token shards: files of token ids with an index of their documents, written once, then mapped into memory.
//
// The format, little-endian throughout:
//
//   offset  bytes
//        0      8  magic "POLARTOK"
//        8      4  version, 1
//       12      4  bytes of one token: 2 (vocabulary up to 65536) or 4
//       16      8  vocabulary size; every id is below it
//       24      8  number of tokens N
//       32      8  number of documents D
//       40      8  bytes of UTF-8 text that the tokens stand for (for bits per byte); 0: not known
//       48     32  checksum of the tokenizer's definition, hexadecimal; zeros: not known
//       80     32  XXH3-128 over bytes [128, end) and then [0, 80), hexadecimal
//      112     16  zeros
//      128         N tokens, then zeros up to a multiple of 8
//                  D document starts, u64: positions of the documents' first tokens, strictly increasing,
//                  the first one 0
//
// Nothing follows. A document's tokens end with the tokenizer's eos, if it has one.
// The .bin shards of llm.c and modded-nanogpt (256 int32 of header: magic 20240520, version 1 with 16-bit
// GPT-2 tokens or version 7 with 32-bit Llama-3 tokens, token count) are read as they are.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace polar {

struct ShardInfo {
  enum class Format { polar, llm_c } format = Format::polar;
  uint32_t token_bytes = 2;  // 2 or 4
  uint64_t vocab_size = 0;   // 0: not recorded (llm.c)
  uint64_t tokens = 0;
  uint64_t documents = 0;       // 0: no index (llm.c)
  uint64_t text_bytes = 0;      // 0: not recorded
  std::string tokenizer_hash;   // empty: not recorded
  int32_t document_token = -1;  // llm.c: the id that begins every document (<|endoftext|>); else -1
};

// A shard mapped into memory. Opening checks everything that costs no pass over the tokens: magic, version,
// every size against the length of the file (without overflow), and the index (sorted, in range).
class Shard {
 public:
  // Error (exit code 1) naming the file, what was found and what was expected.
  explicit Shard(const std::filesystem::path& path);

  const ShardInfo& info() const { return info_; }
  const std::filesystem::path& path() const { return file_.path(); }

  // Copies `count` ids from position `begin`; begin + count <= info().tokens is the caller's duty.
  void read(uint64_t begin, uint64_t count, int32_t* ids) const;
  // Positions of the documents' first tokens; empty without an index.
  std::span<const uint64_t> document_starts() const { return document_starts_; }

  // Reads the whole file: the checksum and every id against the vocabulary. Error (exit code 1) that names
  // the first fault.
  void verify() const;

 private:
  void open_polar();
  void open_llm_c();
  MappedFile file_;
  ShardInfo info_;
  const std::byte* tokens_ = nullptr;
  std::span<const uint64_t> document_starts_;
};

// Writes one shard. The file is complete after close(); a writer destroyed before deletes it.
class ShardWriter {
 public:
  ShardWriter(const std::filesystem::path& path, uint64_t vocab_size, std::string tokenizer_hash);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  // Continues the current document. Error if an id is outside the vocabulary.
  void append(std::span<const int32_t> ids, uint64_t text_bytes);
  // The next append() begins a new document. A document without tokens leaves no trace.
  void end_document() { in_document_ = false; }
  // Counts so far; complete after close().
  const ShardInfo& info() const { return info_; }
  // Returns the checksum that the header carries.
  std::string close();

 private:
  void write(const void* data, size_t size);
  struct Hasher;
  FileWriter file_;
  std::unique_ptr<Hasher> hasher_;
  ShardInfo info_;
  std::vector<uint64_t> document_starts_;
  std::vector<uint16_t> narrow_;
  bool in_document_ = false;
};

// The files that match a pattern ("data/demo/train-*.bin"), sorted by name. Error (exit code 2) if none does.
std::vector<std::filesystem::path> expand_glob(const std::string& pattern);

}  // namespace polar
