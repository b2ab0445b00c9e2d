#include "data/tokenizer.h"

#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "data/bpe.h"
#include "data/sentencepiece.h"
#include "data/utf8.h"

namespace polar {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Ids 0..255 are the bytes, 256 is eos.
class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text) const override {
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    return {bytes, bytes + text.size()};
  }
  std::string token_bytes(int32_t id) const override {
    if (id < 0 || id > kEos) fail_usage("the token id {} is outside the vocabulary of {}", id, kEos + 1);
    return id == kEos ? std::string() : std::string(1, static_cast<char>(id));
  }
  int64_t vocab_size() const override { return kEos + 1; }
  int32_t bos_id() const override { return -1; }
  int32_t eos_id() const override { return kEos; }
  bool splits_at_newlines() const override { return true; }
  const std::string& hash() const override { return hash_; }
  const std::filesystem::path& path() const override { return path_; }

 private:
  static constexpr int32_t kEos = 256;
  std::string hash_ = checksum(std::as_bytes(std::span(std::string_view("polar byte tokenizer, eos 256"))));
  std::filesystem::path path_;
};

}  // namespace

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) text += token_bytes(id);
  if (has_dummy_prefix() && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer), drop_space_(tokenizer.has_dummy_prefix()) {}

std::string StreamDecoder::push(int32_t id) {
  pending_ += tokenizer_.token_bytes(id);
  if (drop_space_ && !pending_.empty()) {
    if (pending_.front() == ' ') pending_.erase(0, 1);
    drop_space_ = false;
  }
  return take(false);
}

std::string StreamDecoder::finish() {
  return take(true);
}

std::string StreamDecoder::take(bool at_end) {
  std::string complete;
  size_t begin = 0;
  while (begin < pending_.size()) {
    const Utf8Prefix prefix = utf8_prefix(std::string_view(pending_).substr(begin));
    if (prefix.state == Utf8Prefix::incomplete && !at_end) break;
    complete += prefix.state == Utf8Prefix::complete ? std::string_view(pending_).substr(begin, prefix.bytes)
                                                     : kReplacement;
    begin += prefix.bytes;
  }
  pending_.erase(0, begin);
  return complete;
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& spec) {
  if (spec == "bytes") return std::make_shared<ByteTokenizer>();
  const std::filesystem::path path(spec);
  if (spec.empty())
    fail_usage("no tokenizer named: expected \"bytes\", a SentencePiece .model file or a tokenizer.json");
  if (!std::filesystem::exists(path))
    fail_usage("there is no tokenizer {} (`polartrain tokenizer train` makes one; \"bytes\" needs no file)",
               spec);
  if (path.extension() == ".json") return load_bpe(path);
  return load_sentencepiece(path);
}

}  // namespace polar
