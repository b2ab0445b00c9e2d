#include "data/sentencepiece.h"

#include <sentencepiece_processor.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"

namespace polar {
namespace {

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581 stands for a space inside pieces
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

class SentencePieceTokenizer : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::filesystem::path& path) : path_(path) {
    const std::string model = read_file(path);
    const auto status = processor_.LoadFromSerializedProto(model);
    if (!status.ok() || processor_.GetPieceSize() == 0)
      fail_usage("{} is not a SentencePiece model ({} bytes): {}", path.string(), model.size(),
                 status.ToString());
    hash_ = checksum(std::as_bytes(std::span(model)));
    for (int32_t id = 0; id < processor_.GetPieceSize(); ++id) bytes_.push_back(bytes_of(id));
    dummy_prefix_ = bytes_[static_cast<size_t>(encode("x").at(0))].starts_with(' ');
    splits_at_newlines_ = newline_stands_alone();
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    const auto status = processor_.Encode(absl::string_view(text.data(), text.size()), &ids);
    if (!status.ok())
      fail("SentencePiece cannot encode {} bytes of text: {}", text.size(), status.ToString());
    return ids;
  }
  std::string token_bytes(int32_t id) const override {
    if (id < 0 || id >= vocab_size())
      fail_usage("the token id {} is outside the vocabulary of {} ({})", id, vocab_size(), path_.string());
    return bytes_[static_cast<size_t>(id)];
  }
  int64_t vocab_size() const override { return processor_.GetPieceSize(); }
  int32_t bos_id() const override { return processor_.bos_id(); }
  int32_t eos_id() const override { return processor_.eos_id(); }
  bool has_dummy_prefix() const override { return dummy_prefix_; }
  bool splits_at_newlines() const override { return splits_at_newlines_; }
  const std::string& hash() const override { return hash_; }
  const std::filesystem::path& path() const override { return path_; }

 private:
  std::string bytes_of(int32_t id) const;
  bool newline_stands_alone() const;

  sentencepiece::SentencePieceProcessor processor_;
  std::filesystem::path path_;
  std::string hash_;
  std::vector<std::string> bytes_;  // of each id
  bool dummy_prefix_ = false;
  bool splits_at_newlines_ = false;
};

std::string SentencePieceTokenizer::bytes_of(int32_t id) const {
  if (processor_.IsControl(id)) return {};
  if (processor_.IsUnknown(id)) return std::string(kReplacement);
  std::string piece = processor_.IdToPiece(id);
  if (processor_.IsByte(id))
    return std::string(1, static_cast<char>(std::stoi(piece.substr(3, 2), nullptr, 16)));
  for (size_t at = 0; (at = piece.find(kSpaceSymbol, at)) != std::string::npos; ++at)
    piece.replace(at, kSpaceSymbol.size(), 1, ' ');
  return piece;
}

// Text may be cut after newlines if no piece crosses one and if pieces of text are not normalised by
// themselves (a dummy prefix, stripped spaces).
bool SentencePieceTokenizer::newline_stands_alone() const {
  const bool crossed = std::any_of(bytes_.begin(), bytes_.end(), [](const std::string& piece) {
    return piece.size() > 1 && piece.find('\n') != std::string::npos;
  });
  std::vector<int32_t> parts = encode("  x \n");
  const std::vector<int32_t> second = encode("  y \n z");
  parts.insert(parts.end(), second.begin(), second.end());
  return !crossed && encode("  x \n  y \n z") == parts;
}

}  // namespace

std::shared_ptr<const Tokenizer> load_sentencepiece(const std::filesystem::path& path) {
  return std::make_shared<SentencePieceTokenizer>(path);
}

}  // namespace polar
