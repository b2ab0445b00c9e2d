// Tokenizers: text (UTF-8) to token ids and back; SentencePiece models, byte-level BPE, plain bytes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace polar {

// All methods are const and may be called from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // The ids of `text`, without bos or eos. Total: text that is not valid UTF-8 is encoded too (SentencePiece
  // replaces the invalid bytes by U+FFFD, `bytes` keeps them).
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;

  // What one id stands for, as bytes: possibly part of a UTF-8 sequence, empty for control tokens (bos, eos).
  // Error (exit code 2) if the id is outside [0, vocab_size).
  virtual std::string token_bytes(int32_t id) const = 0;

  virtual int64_t vocab_size() const = 0;
  virtual int32_t bos_id() const = 0;  // -1: none
  virtual int32_t eos_id() const = 0;  // -1: none; ends every document in the shards

  // A space that encode() puts before the text and decode() takes away again (SentencePiece's dummy prefix).
  virtual bool has_dummy_prefix() const { return false; }
  // True if text may be cut after any newline and encoded piece by piece: the ids are those of the whole.
  virtual bool splits_at_newlines() const = 0;

  // Checksum of the tokenizer's definition, 32 hexadecimal digits: equal for equal tokenizers.
  virtual const std::string& hash() const = 0;
  // The file it was read from; empty for `bytes`.
  virtual const std::filesystem::path& path() const = 0;

  // The text of `ids`: their bytes, less the dummy prefix.
  std::string decode(std::span<const int32_t> ids) const;
};

// Decodes a growing sequence: push() returns the text that has become complete, never half a character.
// Bytes that can never become valid UTF-8 come out as U+FFFD, so the output is always valid.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer);
  std::string push(int32_t id);
  // The rest: an incomplete character becomes U+FFFD.
  std::string finish();

 private:
  std::string take(bool at_end);
  const Tokenizer& tokenizer_;
  std::string pending_;  // bytes that are not a whole character yet
  bool drop_space_;      // the dummy prefix is still to come
};

// `spec` is the configuration's data.tokenizer: "bytes" (ids 0..255 and eos 256), a SentencePiece .model
// file, or a tokenizer.json of Hugging Face (data/bpe.h says which). Errors (exit code 2): no such file, not
// such a model.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& spec);

}  // namespace polar
