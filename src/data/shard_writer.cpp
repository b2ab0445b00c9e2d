#include "data/shard_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace polar {

ShardWriter::ShardWriter(const std::filesystem::path& path, uint64_t vocab_size, std::string tokenizer_hash)
    : file_(path) {
  info_.vocab_size = vocab_size;
  info_.token_bytes = vocab_size <= 65536 ? 2 : 4;
  info_.tokenizer_hash = std::move(tokenizer_hash);
  const shard_format::Header placeholder{};
  file_.write(&placeholder, sizeof(placeholder));
}

void ShardWriter::write(const void* data, size_t size) {
  checksum_.add({static_cast<const std::byte*>(data), size});
  file_.write(data, size);
}

void ShardWriter::append(std::span<const int32_t> ids, uint64_t text_bytes) {
  info_.text_bytes += text_bytes;
  if (ids.empty()) return;
  for (const int32_t id : ids)
    if (id < 0 || static_cast<uint64_t>(id) >= info_.vocab_size)
      fail("the id {} is outside the vocabulary of {}", id, info_.vocab_size);
  if (!std::exchange(in_document_, true)) document_starts_.push_back(info_.tokens);
  info_.tokens += ids.size();
  if (info_.token_bytes == 4) return write(ids.data(), ids.size_bytes());
  narrow_.resize(ids.size());
  std::transform(ids.begin(), ids.end(), narrow_.begin(),
                 [](int32_t id) { return static_cast<uint16_t>(id); });
  write(narrow_.data(), narrow_.size() * sizeof(uint16_t));
}

std::string ShardWriter::close() {
  info_.documents = document_starts_.size();
  const uint64_t token_area = info_.tokens * info_.token_bytes;
  const uint64_t zeros = 0;
  write(&zeros, shard_format::padded(token_area) - token_area);
  write(document_starts_.data(), document_starts_.size() * sizeof(uint64_t));

  shard_format::Header header{};
  std::memcpy(header.magic, shard_format::kMagic, sizeof(header.magic));
  header.version = shard_format::kVersion;
  header.token_bytes = info_.token_bytes;
  header.vocab_size = info_.vocab_size;
  header.tokens = info_.tokens;
  header.documents = info_.documents;
  header.text_bytes = info_.text_bytes;
  info_.tokenizer_hash.copy(header.tokenizer_hash, sizeof(header.tokenizer_hash));
  checksum_.add(std::as_bytes(std::span(&header, 1)).first(shard_format::kHashedHeaderBytes));
  const std::string digits = checksum_.digits();
  digits.copy(header.checksum, sizeof(header.checksum));
  file_.write_at(0, &header, sizeof(header));
  file_.close();
  return digits;
}

}  // namespace polar
