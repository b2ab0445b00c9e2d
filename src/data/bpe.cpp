#include "data/bpe.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <queue>
#include <unordered_map>

#include "base/error.h"
#include "base/file.h"
#include "data/pre_tokenizer.h"
#include "data/utf8.h"

namespace polar {
namespace {

using nlohmann::json;

constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// A tokenizer.json that is being read: every error names the file.
struct Source {
  std::filesystem::path path;
  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail_usage("cannot use the tokenizer {}: {}", path.string(),
               fmt::format(format, std::forward<Args>(args)...));
  }
};

// GPT-2's printable stand-ins for bytes: bytes that are printable Latin-1 stand for themselves, the others in
// order for the characters from U+0100 on. Returns the byte of each character, by code point.
std::array<int, 0x144> bytes_of_characters() {
  std::array<int, 0x144> bytes;
  bytes.fill(-1);
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
    bytes[static_cast<size_t>(printable ? byte : next++)] = byte;
  }
  return bytes;
}

// The bytes that a vocabulary entry stands for; false if it is not made of stand-ins.
bool to_bytes(std::string_view entry, std::string& bytes) {
  static const std::array<int, 0x144> table = bytes_of_characters();
  bytes.clear();
  while (!entry.empty()) {
    const Utf8Prefix prefix = utf8_prefix(entry);
    const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(entry[i])); };
    const size_t point = prefix.bytes == 1   ? byte(0)
                         : prefix.bytes == 2 ? (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F)
                                             : ~size_t{0};
    if (prefix.state != Utf8Prefix::complete || point >= table.size() || table[point] < 0) return false;
    bytes += static_cast<char>(table[point]);
    entry.remove_prefix(prefix.bytes);
  }
  return !bytes.empty();
}

struct Merge {
  uint32_t rank;
  int32_t id;  // of the joined piece
};

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// Applies the merges to one pre-token: always the one of lowest rank, the leftmost of equals.
class Merger {
 public:
  explicit Merger(const std::unordered_map<uint64_t, Merge>& merges) : merges_(merges) {}

  // `ids` are those of the bytes; replaced by those of the merged pieces.
  void merge(std::vector<int32_t>& ids) {
    const size_t count = ids.size();
    next_.resize(count);
    previous_.resize(count);
    for (size_t i = 0; i < count; ++i) {
      next_[i] = i + 1;
      previous_[i] = i == 0 ? count : i - 1;
    }
    for (size_t i = 0; i + 1 < count; ++i) consider(ids, i);
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      const size_t right = next_[best.at];
      // A candidate is stale if one of its two pieces has been merged since.
      if (ids[best.at] != best.left || right >= count || ids[right] != best.right) continue;
      ids[best.at] = best.id;
      ids[right] = kGone;
      next_[best.at] = next_[right];
      if (next_[right] < count) previous_[next_[right]] = best.at;
      if (previous_[best.at] < count) consider(ids, previous_[best.at]);
      consider(ids, best.at);
    }
    std::erase(ids, kGone);
  }

 private:
  static constexpr int32_t kGone = -1;
  struct Candidate {
    uint32_t rank;
    size_t at;
    int32_t left, right, id;
    bool operator<(const Candidate& other) const {  // the queue gives the greatest first
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  void consider(const std::vector<int32_t>& ids, size_t at) {
    const size_t right = next_[at];
    if (right >= ids.size()) return;
    const auto found = merges_.find(pair_key(ids[at], ids[right]));
    if (found != merges_.end())
      candidates_.push({found->second.rank, at, ids[at], ids[right], found->second.id});
  }
  const std::unordered_map<uint64_t, Merge>& merges_;
  std::priority_queue<Candidate> candidates_;
  std::vector<size_t> next_, previous_;  // neighbours; the count: none
};

class BpeTokenizer : public Tokenizer {
 public:
  explicit BpeTokenizer(const std::filesystem::path& path) : source_{path} {
    const std::string text = read_file(path);
    hash_ = checksum(std::as_bytes(std::span(text)));
    json root;
    try {
      root = json::parse(text);
      if (!root.is_object()) source_.refuse("expected a JSON object, found {}", root.type_name());
      read_model(root.at("model"));
      read_added_tokens(root.value("added_tokens", json::array()));
      read_pre_tokenizer(root);
    } catch (const json::exception& error) {
      source_.refuse("{}", error.what());
    }
    bos_id_ = special_of_config("bos_token");
    eos_id_ = id_of_added("<|endoftext|>");
    if (eos_id_ < 0) eos_id_ = special_of_config("eos_token");
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids, word;
    Merger merger(merges_);
    pre_tokenizer_->split(text, [&](std::string_view piece) {
      if (const auto whole = ids_.find(std::string(piece)); ignore_merges_ && whole != ids_.end())
        return ids.push_back(whole->second);
      word.clear();
      for (const char byte : piece) word.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
      merger.merge(word);
      ids.insert(ids.end(), word.begin(), word.end());
    });
    return ids;
  }
  std::string token_bytes(int32_t id) const override {
    if (id < 0 || id >= vocab_size())
      fail_usage("the token id {} is outside the vocabulary of {} ({})", id, vocab_size(),
                 source_.path.string());
    return bytes_[static_cast<size_t>(id)];
  }
  int64_t vocab_size() const override { return static_cast<int64_t>(bytes_.size()); }
  int32_t bos_id() const override { return bos_id_; }
  int32_t eos_id() const override { return eos_id_; }
  // Runs of white space are cut in ways that depend on what follows the newline.
  bool splits_at_newlines() const override { return false; }
  const std::string& hash() const override { return hash_; }
  const std::filesystem::path& path() const override { return source_.path; }

 private:
  void read_model(const json& model);
  void read_merges(const json& merges);
  void read_added_tokens(const json& tokens);
  void read_pre_tokenizer(const json& root);
  void set_bytes(int64_t id, std::string bytes);
  int32_t id_of_added(const std::string& content) const;
  int32_t special_of_config(const char* name) const;

  Source source_;
  std::string hash_;
  std::vector<std::string> bytes_;                // of each id
  std::unordered_map<std::string, int32_t> ids_;  // of the vocabulary's byte strings
  std::unordered_map<std::string, int32_t> added_;
  std::array<int32_t, 256> byte_ids_{};
  std::unordered_map<uint64_t, Merge> merges_;
  std::unique_ptr<PreTokenizer> pre_tokenizer_;
  bool ignore_merges_ = false;
  int32_t bos_id_ = -1, eos_id_ = -1;
};

void BpeTokenizer::set_bytes(int64_t id, std::string bytes) {
  constexpr int64_t kMaxVocabulary = 10'000'000;
  if (id < 0 || id >= kMaxVocabulary) source_.refuse("the id {} is not in [0, {})", id, kMaxVocabulary);
  if (id >= vocab_size()) bytes_.resize(static_cast<size_t>(id) + 1);
  bytes_[static_cast<size_t>(id)] = std::move(bytes);
}

void BpeTokenizer::read_model(const json& model) {
  if (model.value("type", "BPE") != "BPE")
    source_.refuse("its model is {}, expected BPE", model["type"].dump());
  for (const char* option : {"byte_fallback", "fuse_unk"})
    if (model.contains(option) && model[option] == true) source_.refuse("{} is not supported", option);
  ignore_merges_ = model.value("ignore_merges", false);
  std::string bytes;
  for (const auto& [entry, id] : model.at("vocab").items()) {
    if (!to_bytes(entry, bytes)) continue;  // a special token that stands among the pieces
    set_bytes(id.get<int64_t>(), bytes);
    ids_[bytes] = id.get<int32_t>();
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    const auto found = ids_.find(std::string(1, static_cast<char>(byte)));
    if (found == ids_.end())
      source_.refuse("its vocabulary has no piece for the byte 0x{:02x}: not byte-level BPE", byte);
    byte_ids_[byte] = found->second;
  }
  read_merges(model.at("merges"));
}

// Merges are "left right" or ["left", "right"], in order of rank.
void BpeTokenizer::read_merges(const json& merges) {
  uint32_t rank = 0;
  for (const json& merge : merges) {
    std::array<std::string, 2> parts, bytes;
    if (merge.is_array() && merge.size() == 2) {
      parts = {merge[0].get<std::string>(), merge[1].get<std::string>()};
    } else {
      const std::string text = merge.get<std::string>();
      const size_t space = text.find(' ');
      parts = {text.substr(0, space), space == std::string::npos ? "" : text.substr(space + 1)};
    }
    const bool good = to_bytes(parts[0], bytes[0]) && to_bytes(parts[1], bytes[1]) &&
                      ids_.contains(bytes[0]) && ids_.contains(bytes[1]) &&
                      ids_.contains(bytes[0] + bytes[1]);
    if (!good)
      source_.refuse("merge {} ({}) joins pieces that are not in its vocabulary", rank, merge.dump());
    merges_.try_emplace(pair_key(ids_[bytes[0]], ids_[bytes[1]]), Merge{rank, ids_[bytes[0] + bytes[1]]});
    ++rank;
  }
}

void BpeTokenizer::read_added_tokens(const json& tokens) {
  for (const json& token : tokens) {
    const auto content = token.at("content").get<std::string>();
    const auto id = token.at("id").get<int64_t>();
    set_bytes(id, token.value("special", false) ? std::string() : content);
    added_[content] = static_cast<int32_t>(id);
  }
}

void BpeTokenizer::read_pre_tokenizer(const json& root) {
  const json normalizer = root.value("normalizer", json());
  if (!normalizer.is_null() && normalizer.value("type", "") != "NFC")
    source_.refuse("its normalizer {} is not supported (NFC or none)", normalizer.dump());
  const json whole = root.at("pre_tokenizer");
  const json steps = whole.value("type", "") == "Sequence" ? whole.at("pretokenizers") : json::array({whole});
  std::string pattern;
  bool byte_level = false;
  for (const json& step : steps) {
    const std::string type = step.value("type", "");
    const bool is_split = type == "Split" && pattern.empty() && !byte_level &&
                          step.value("behavior", "") == "Isolated" && !step.value("invert", false) &&
                          step.at("pattern").contains("Regex");
    if (is_split) {
      pattern = step["pattern"]["Regex"].get<std::string>();
    } else if (type == "ByteLevel" && !byte_level && !step.value("add_prefix_space", true) &&
               pattern.empty() == step.value("use_regex", true)) {
      byte_level = true;
      if (pattern.empty()) pattern = kGpt2Pattern;
    } else {
      source_.refuse("its pre-tokenizer {} is not supported (ByteLevel, or Split by a Regex and ByteLevel)",
                     whole.dump());
    }
  }
  if (!byte_level) source_.refuse("its pre-tokenizer is not ByteLevel");
  try {
    pre_tokenizer_ = std::make_unique<PreTokenizer>(pattern, !normalizer.is_null());
  } catch (const Error& error) {
    source_.refuse("{}", error.what());
  }
}

int32_t BpeTokenizer::id_of_added(const std::string& content) const {
  const auto found = added_.find(content);
  return found == added_.end() ? -1 : found->second;
}

// bos_token and eos_token of tokenizer_config.json are strings or {"content": ...}; absent or null: none.
int32_t BpeTokenizer::special_of_config(const char* name) const {
  const std::filesystem::path config = source_.path.parent_path() / "tokenizer_config.json";
  if (!std::filesystem::exists(config)) return -1;
  const json root = json::parse(read_file(config), nullptr, false);
  if (!root.is_object()) source_.refuse("{} beside it is not a JSON object", config.string());
  json token = root.value(name, json());
  if (token.is_object()) token = token.value("content", json());
  return token.is_string() ? id_of_added(token.get<std::string>()) : -1;
}

}  // namespace

std::shared_ptr<const Tokenizer> load_bpe(const std::filesystem::path& path) {
  return std::make_shared<BpeTokenizer>(path);
}

}  // namespace polar
