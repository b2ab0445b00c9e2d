#include "data/shard.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"

namespace polar {
namespace {

static_assert(std::endian::native == std::endian::little,
              "shards are read and written as they lie in memory");

constexpr size_t kLlmcHeaderInts = 256;
constexpr int32_t kLlmcMagic = 20240520;

[[noreturn]] void damaged(const std::filesystem::path& path, const std::string& what) {
  fail("{} is not a usable token shard: {}. Prepare it again with `polartrain data prepare`", path.string(),
       what);
}

std::string hex_field(const char* digits) {
  const std::string_view text(digits, shard_format::kHashDigits);
  if (text.find_first_not_of('\0') == std::string_view::npos) return {};
  return std::string(text);
}

bool is_hash(std::string_view text) {
  return text.empty() || (text.size() == shard_format::kHashDigits &&
                          text.find_first_not_of("0123456789abcdef") == std::string_view::npos);
}

}  // namespace

Shard::Shard(const std::filesystem::path& path) : file_(path) {
  std::string_view begin(reinterpret_cast<const char*>(file_.data()), std::min<size_t>(file_.size(), 8));
  if (begin == std::string_view(shard_format::kMagic, sizeof(shard_format::kMagic)))
    open_polar();
  else if (begin.starts_with(
               std::string_view(reinterpret_cast<const char*>(&kLlmcMagic), sizeof(kLlmcMagic))))
    open_llm_c();
  else
    damaged(path, fmt::format("its {} bytes begin neither with \"POLARTOK\" nor with llm.c's magic number {}",
                              file_.size(), kLlmcMagic));
}

void Shard::open_polar() {
  shard_format::Header header;
  if (file_.size() < sizeof(header))
    damaged(path(), fmt::format("{} bytes are less than its header of {}", file_.size(), sizeof(header)));
  std::memcpy(&header, file_.data(), sizeof(header));
  if (header.version != shard_format::kVersion)
    damaged(path(),
            fmt::format("format version {}, this program reads {}", header.version, shard_format::kVersion));
  if (header.token_bytes != 2 && header.token_bytes != 4)
    damaged(path(), fmt::format("{} bytes a token, expected 2 or 4", header.token_bytes));
  if (header.vocab_size == 0 || header.vocab_size > (uint64_t{1} << 31) ||
      (header.token_bytes == 2 && header.vocab_size > 65536))
    damaged(path(),
            fmt::format("a vocabulary of {} with {} bytes a token", header.vocab_size, header.token_bytes));

  // Compare by subtraction and division: the counts of a hostile header may overflow any sum or product.
  const uint64_t body = file_.size() - sizeof(header);
  if (header.tokens > body / header.token_bytes)
    damaged(path(),
            fmt::format("its header promises {} tokens of {} bytes, but only {} bytes follow (truncated?)",
                        header.tokens, header.token_bytes, body));
  const uint64_t token_area = shard_format::padded(header.tokens * header.token_bytes);
  if (token_area > body || header.documents > (body - token_area) / sizeof(uint64_t))
    damaged(path(), fmt::format("no room for its index of {} documents (truncated?)", header.documents));
  const uint64_t expected = sizeof(header) + token_area + header.documents * sizeof(uint64_t);
  if (expected != file_.size())
    damaged(path(), fmt::format("{} bytes long, its header says {}", file_.size(), expected));

  info_.token_bytes = header.token_bytes;
  info_.vocab_size = header.vocab_size;
  info_.tokens = header.tokens;
  info_.documents = header.documents;
  info_.text_bytes = header.text_bytes;
  info_.tokenizer_hash = hex_field(header.tokenizer_hash);
  info_.checksum = hex_field(header.checksum);
  if (!is_hash(info_.tokenizer_hash)) damaged(path(), "its tokenizer hash is not hexadecimal");
  tokens_ = file_.data() + sizeof(header);
  document_starts_ = {reinterpret_cast<const uint64_t*>(tokens_ + token_area), header.documents};
  check_index();
}

void Shard::check_index() const {
  if ((info_.documents == 0) != (info_.tokens == 0))
    damaged(path(), fmt::format("{} tokens in {} documents", info_.tokens, info_.documents));
  for (uint64_t i = 0; i < info_.documents; ++i) {
    const uint64_t start = document_starts_[i];
    const bool in_order = i == 0 ? start == 0 : start > document_starts_[i - 1];
    if (!in_order || start >= info_.tokens)
      damaged(path(),
              fmt::format("document {} begins at token {}, which is out of order or beyond the {} tokens", i,
                          start, info_.tokens));
  }
}

void Shard::open_llm_c() {
  std::array<int32_t, kLlmcHeaderInts> header;
  if (file_.size() < sizeof(header))
    damaged(path(), fmt::format("{} bytes are less than llm.c's header of {}", file_.size(), sizeof(header)));
  std::memcpy(header.data(), file_.data(), sizeof(header));
  const int32_t version = header[1], tokens = header[2];
  if (version != 1 && version != 7)
    damaged(
        path(),
        fmt::format("llm.c data version {}, this program reads 1 (GPT-2, 16 bits) and 7 (Llama 3, 32 bits)",
                    version));
  info_.format = ShardInfo::Format::llm_c;
  info_.token_bytes = version == 1 ? 2 : 4;
  info_.document_token = version == 1 ? 50256 : 128000;
  const uint64_t expected = sizeof(header) + static_cast<uint64_t>(std::max(tokens, 0)) * info_.token_bytes;
  if (tokens < 0 || expected != file_.size())
    damaged(path(), fmt::format("{} bytes long, its llm.c header of {} tokens says {}", file_.size(), tokens,
                                expected));
  info_.tokens = static_cast<uint64_t>(tokens);
  tokens_ = file_.data() + sizeof(header);
}

void Shard::read(uint64_t begin, uint64_t count, int32_t* ids) const {
  if (info_.token_bytes == 4) {
    std::memcpy(ids, tokens_ + begin * sizeof(int32_t), count * sizeof(int32_t));
    return;
  }
  const auto* tokens = reinterpret_cast<const uint16_t*>(tokens_) + begin;
  std::copy(tokens, tokens + count, ids);
}

void Shard::verify() const {
  if (info_.format == ShardInfo::Format::polar) {
    shard_format::Header header;
    std::memcpy(&header, file_.data(), sizeof(header));
    Checksum sum;
    sum.add(file_.bytes().subspan(sizeof(header)));
    sum.add(file_.bytes().first(shard_format::kHashedHeaderBytes));
    const std::string actual = sum.digits();
    const std::string stated(header.checksum, shard_format::kHashDigits);
    if (actual != stated)
      damaged(path(),
              fmt::format("its checksum is {}, its header says {}", actual, hex_field(stated.data())));
  }
  if (info_.vocab_size == 0) return;
  std::array<int32_t, 4096> ids;
  for (uint64_t begin = 0; begin < info_.tokens; begin += ids.size()) {
    const uint64_t count = std::min<uint64_t>(ids.size(), info_.tokens - begin);
    read(begin, count, ids.data());
    for (uint64_t i = 0; i < count; ++i)
      if (static_cast<uint32_t>(ids[i]) >= info_.vocab_size)
        damaged(path(), fmt::format("token {} has the id {}, the vocabulary is {}", begin + i,
                                    static_cast<uint32_t>(ids[i]), info_.vocab_size));
  }
}

}  // namespace polar
