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
//       80     32  XXH3-128 over the bytes [128, end) and then [0, 80), hexadecimal
//      112     16  zeros
//      128         N tokens, then zeros up to a multiple of 8 bytes
//                  D document starts, u64: positions of the documents' first tokens, increasing from 0
//
// Nothing follows. A document's tokens end with the tokenizer's eos, if it has one.
//
// The .bin shards of llm.c and modded-nanogpt are read as they are: 256 int32 of header (magic 20240520;
// version 1 with 16-bit GPT-2 tokens or version 7 with 32-bit Llama 3 tokens; token count), then the tokens.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "base/file.h"

namespace polar {

namespace shard_format {

constexpr char kMagic[8] = {'P', 'O', 'L', 'A', 'R', 'T', 'O', 'K'};
constexpr uint32_t kVersion = 1;
constexpr size_t kHashDigits = 32;
constexpr size_t kHashedHeaderBytes = 80;

struct Header {
  char magic[8];
  uint32_t version, token_bytes;
  uint64_t vocab_size, tokens, documents, text_bytes;
  char tokenizer_hash[kHashDigits];
  char checksum[kHashDigits];
  char zeros[16];
};
static_assert(sizeof(Header) == 128 && offsetof(Header, checksum) == kHashedHeaderBytes);

// Bytes of the token area: the index behind it is aligned to 8.
constexpr uint64_t padded(uint64_t bytes) {
  return (bytes + 7) / 8 * 8;
}

}  // namespace shard_format

// XXH3-128 of a sequence of pieces; digits() as base/file.h's checksum().
class Checksum {
 public:
  Checksum();
  ~Checksum();
  void add(std::span<const std::byte> bytes);
  std::string digits() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

struct ShardInfo {
  enum class Format { polar, llm_c } format = Format::polar;
  uint32_t token_bytes = 2;  // 2 or 4
  uint64_t vocab_size = 0;   // 0: not recorded (llm.c)
  uint64_t tokens = 0;
  uint64_t documents = 0;       // 0: no index (llm.c)
  uint64_t text_bytes = 0;      // 0: not recorded
  std::string tokenizer_hash;   // empty: not recorded
  std::string checksum;         // of the whole file, as its header has it; empty: not recorded (llm.c)
  int32_t document_token = -1;  // llm.c: the id that begins every document; else -1
};

// A shard mapped into memory. Opening checks everything that costs no pass over the tokens: magic, version,
// every size against the length of the file, and the index (sorted, in range).
class Shard {
 public:
  // Error (exit code 1) that names the file, what was found and what was expected.
  explicit Shard(const std::filesystem::path& path);

  const ShardInfo& info() const { return info_; }
  const std::filesystem::path& path() const { return file_.path(); }

  // Copies `count` ids from position `begin`; begin + count <= info().tokens is the caller's duty.
  void read(uint64_t begin, uint64_t count, int32_t* ids) const;
  // Positions of the documents' first tokens; empty without an index.
  std::span<const uint64_t> document_starts() const { return document_starts_; }

  // Reads the whole file: the checksum, and every id against the vocabulary. Error (exit code 1) that names
  // the first fault.
  void verify() const;

 private:
  void open_polar();
  void check_index() const;
  void open_llm_c();
  MappedFile file_;
  ShardInfo info_;
  const std::byte* tokens_ = nullptr;
  std::span<const uint64_t> document_starts_;
};

}  // namespace polar
