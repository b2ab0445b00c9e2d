#include "data/shard.h"

#include <fcntl.h>
#include <gmock/gmock.h>

#include <array>
#include <functional>

#include "data/shard_writer.h"
#include "data/support.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using shard_format::Header;
using testing::HasSubstr;

TEST(Shard, WhatIsWrittenIsRead) {
  const TemporaryDirectory folder;
  for (const uint64_t vocab : {300, 65536, 65537, 151936}) {
    const fs::path path = folder / "shard.bin";
    const std::string hash = checksum(std::as_bytes(std::span("tokenizer", 9)));
    ShardWriter writer(path, vocab, hash);
    const std::vector<int32_t> first = {0, 1, static_cast<int32_t>(vocab - 1)}, second = {7};
    writer.append(first, 11);
    writer.end_document();
    writer.end_document();  // no tokens: no document
    writer.append(second, 2);
    writer.append(first, 5);
    writer.end_document();
    const std::string sum = writer.close();

    const Shard shard(path);
    EXPECT_EQ(shard.info().token_bytes, vocab <= 65536 ? 2u : 4u);
    EXPECT_EQ(shard.info().vocab_size, vocab);
    EXPECT_EQ(shard.info().tokens, 7u);
    EXPECT_EQ(shard.info().text_bytes, 18u);
    EXPECT_EQ(shard.info().tokenizer_hash, hash);
    EXPECT_THAT(shard.document_starts(), testing::ElementsAre(0, 3));
    std::vector<int32_t> ids(7);
    shard.read(0, 7, ids.data());
    const auto last = static_cast<int32_t>(vocab - 1);
    EXPECT_EQ(ids, (std::vector<int32_t>{0, 1, last, 7, 0, 1, last}));
    EXPECT_NO_THROW(shard.verify());
    // The checksum is XXH3-128 over body and header fields, as the format's description says.
    const std::string bytes = read_file(path);
    const std::string hashed = bytes.substr(128) + bytes.substr(0, 80);
    EXPECT_EQ(sum, checksum(std::as_bytes(std::span(hashed))));
  }
}

TEST(Shard, AnEmptyShardIsValid) {
  const TemporaryDirectory folder;
  ShardWriter(folder / "empty.bin", 300, "").close();
  const Shard shard(folder / "empty.bin");
  EXPECT_EQ(shard.info().tokens, 0u);
  EXPECT_NO_THROW(shard.verify());
}

TEST(ShardWriter, RefusesIdsOutsideTheVocabularyAndLeavesNoFile) {
  const TemporaryDirectory folder;
  for (const int32_t id : {-1, 300}) {
    EXPECT_THAT(error_of([&] {
                  ShardWriter writer(folder / "shard.bin", 300, "");
                  writer.append({&id, 1}, 1);
                }).what(),
                HasSubstr(std::to_string(id)));
    EXPECT_FALSE(fs::exists(folder / "shard.bin"));
  }
}

// A good shard of 100 tokens (vocabulary 300, documents of 10 tokens), changed by `change`.
struct Damage {
  const char* name;
  std::function<void(std::string&)> change;
  const char* message;
  bool only_verify_sees_it = false;
};

template <class T>
void set_field(std::string& bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

constexpr size_t kIndex = 128 + 200;  // of the document starts

const std::vector<Damage> kDamages = {
    {"empty", [](std::string& b) { b.clear(); }, "begin neither"},
    {"short", [](std::string& b) { b.resize(5); }, "begin neither"},
    {"magic", [](std::string& b) { b[0] = 'X'; }, "begin neither"},
    {"header_cut", [](std::string& b) { b.resize(127); }, "less than its header"},
    {"version", [](std::string& b) { set_field(b, 8, uint32_t{2}); }, "format version 2"},
    {"width", [](std::string& b) { set_field(b, 12, uint32_t{3}); }, "3 bytes a token"},
    {"width_zero", [](std::string& b) { set_field(b, 12, uint32_t{0}); }, "0 bytes a token"},
    {"vocabulary_zero", [](std::string& b) { set_field(b, 16, uint64_t{0}); }, "vocabulary of 0"},
    {"vocabulary_wide", [](std::string& b) { set_field(b, 16, uint64_t{70000}); }, "vocabulary of 70000"},
    {"vocabulary_huge",
     [](std::string& b) {
       set_field(b, 12, uint32_t{4});
       set_field(b, 16, ~uint64_t{0});
     },
     "vocabulary of"},
    {"tokens_more", [](std::string& b) { set_field(b, 24, uint64_t{1000}); }, "promises 1000 tokens"},
    {"tokens_overflow", [](std::string& b) { set_field(b, 24, uint64_t{1} << 63); }, "promises"},
    {"tokens_wrap", [](std::string& b) { set_field(b, 24, (uint64_t{1} << 63) + 100); }, "promises"},
    {"tokens_less", [](std::string& b) { set_field(b, 24, uint64_t{60}); }, "bytes long, its header says"},
    {"documents_overflow", [](std::string& b) { set_field(b, 32, ~uint64_t{0} / 8 + 2); },
     "no room for its index"},
    {"documents_more", [](std::string& b) { set_field(b, 32, uint64_t{11}); }, "no room for its index"},
    {"documents_less", [](std::string& b) { set_field(b, 32, uint64_t{9}); }, "bytes long, its header says"},
    {"truncated", [](std::string& b) { b.pop_back(); }, "no room for its index"},
    {"longer", [](std::string& b) { b += '\0'; }, "bytes long, its header says"},
    {"hash_text", [](std::string& b) { b[48] = 'z'; }, "not hexadecimal"},
    {"index_first", [](std::string& b) { set_field(b, kIndex, uint64_t{1}); }, "document 0"},
    {"index_unsorted", [](std::string& b) { set_field(b, kIndex + 24, uint64_t{5}); }, "document 3"},
    {"index_repeated", [](std::string& b) { set_field(b, kIndex + 16, uint64_t{10}); }, "document 2"},
    {"index_range", [](std::string& b) { set_field(b, kIndex + 72, uint64_t{100}); }, "document 9"},
    {"index_huge", [](std::string& b) { set_field(b, kIndex + 72, ~uint64_t{0}); }, "document 9"},
    {"token_flipped", [](std::string& b) { b[150] ^= 1; }, "checksum", true},
    {"text_bytes_changed", [](std::string& b) { set_field(b, 40, uint64_t{12345}); }, "checksum", true},
    {"checksum_changed", [](std::string& b) { b[80] = b[80] == '0' ? '1' : '0'; }, "checksum", true},
    {"vocabulary_changed", [](std::string& b) { set_field(b, 16, uint64_t{5}); }, "checksum", true},
};

class HostileShard : public testing::TestWithParam<Damage> {};

TEST_P(HostileShard, IsRefusedByName) {
  const TemporaryDirectory folder;
  const fs::path path = folder / "shard.bin";
  write_counting_shard(path, 100, 300, 10, 400, std::string(32, 'a'));
  ASSERT_NO_THROW(Shard(path).verify());
  std::string bytes = read_file(path);
  GetParam().change(bytes);
  put(path, bytes);
  if (GetParam().only_verify_sees_it) {
    EXPECT_NO_THROW(Shard{path});
  }
  const Error error = error_of([&] { Shard(path).verify(); });
  EXPECT_EQ(error.code(), ExitCode::failed);
  EXPECT_THAT(error.what(), HasSubstr(path.string()));
  EXPECT_THAT(error.what(), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(Cases, HostileShard, testing::ValuesIn(kDamages),
                         [](const auto& instance) { return std::string(instance.param.name); });

// A checksum can be forged; the ids are looked at all the same.
TEST(Shard, VerifyChecksEveryId) {
  const TemporaryDirectory folder;
  const fs::path path = folder / "shard.bin";
  write_counting_shard(path, 100, 300, 10);
  std::string bytes = read_file(path);
  set_field(bytes, 128 + 2 * 99, uint16_t{300});
  const std::string hashed = bytes.substr(128) + bytes.substr(0, 80);
  bytes.replace(80, 32, checksum(std::as_bytes(std::span(hashed))));
  put(path, bytes);
  EXPECT_THAT(error_of([&] { Shard(path).verify(); }).what(), HasSubstr("token 99 has the id 300"));
}

TEST(Shard, OffsetsHave64Bits) {
  const TemporaryDirectory folder;
  const fs::path path = folder / "large.bin";
  const uint64_t tokens = (uint64_t{5} << 30) / 2;  // 5 GiB of 16-bit tokens, a hole in the file
  Header header{};
  std::memcpy(header.magic, shard_format::kMagic, sizeof(header.magic));
  header.version = shard_format::kVersion;
  header.token_bytes = 2;
  header.vocab_size = 300;
  header.tokens = tokens;
  header.documents = 1;
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_GE(file, 0);
  const std::array<uint16_t, 2> last = {123, 45};
  const auto end = static_cast<off_t>(sizeof(header) + tokens * 2);
  ASSERT_EQ(::ftruncate(file, end + 8), 0);
  ASSERT_EQ(::pwrite(file, &header, sizeof(header), 0), static_cast<ssize_t>(sizeof(header)));
  ASSERT_EQ(::pwrite(file, last.data(), 4, end - 4), 4);
  ::close(file);
  const Shard shard(path);
  std::vector<int32_t> ids(3);
  shard.read(tokens - 3, 3, ids.data());
  EXPECT_EQ(ids, (std::vector<int32_t>{0, 123, 45}));
}

// The files of llm.c: 256 int32 of header, then the tokens.
template <class Token>
void write_llm_c(const fs::path& path, int32_t version, int32_t count, const std::vector<Token>& tokens) {
  std::array<int32_t, 256> header = {20240520, version, count};
  std::string bytes(reinterpret_cast<const char*>(header.data()), sizeof(header));
  bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(Token));
  put(path, bytes);
}

TEST(LlmC, BothVersionsAreReadAsTheyAre) {
  const TemporaryDirectory folder;
  std::vector<int32_t> ids(4);
  write_llm_c<uint16_t>(folder / "gpt2.bin", 1, 4, {50256, 15496, 995, 50256});
  const Shard gpt2(folder / "gpt2.bin");
  gpt2.read(0, 4, ids.data());
  EXPECT_EQ(ids, (std::vector<int32_t>{50256, 15496, 995, 50256}));
  EXPECT_EQ(gpt2.info().document_token, 50256);
  EXPECT_EQ(gpt2.info().vocab_size, 0u);
  EXPECT_NO_THROW(gpt2.verify());

  write_llm_c<uint32_t>(folder / "llama.bin", 7, 4, {128000, 1, 127999, 128000});
  const Shard llama(folder / "llama.bin");
  llama.read(0, 4, ids.data());
  EXPECT_EQ(ids, (std::vector<int32_t>{128000, 1, 127999, 128000}));
  EXPECT_EQ(llama.info().document_token, 128000);
}

TEST(LlmC, HostileHeadersAreRefused) {
  const TemporaryDirectory folder;
  const fs::path path = folder / "shard.bin";
  const auto message = [&](int32_t version, int32_t count) {
    write_llm_c<uint16_t>(path, version, count, {1, 2, 3, 4});
    return std::string(error_of([&] { Shard shard(path); }).what());
  };
  EXPECT_THAT(message(2, 4), HasSubstr("version 2"));
  EXPECT_THAT(message(1, 5), HasSubstr("header of 5 tokens"));
  EXPECT_THAT(message(1, 3), HasSubstr("header of 3 tokens"));
  EXPECT_THAT(message(1, -4), HasSubstr("header of -4 tokens"));
  EXPECT_THAT(message(7, 4), HasSubstr("header of 4 tokens"));
  const int32_t magic = 20240520;
  put(path, std::string(reinterpret_cast<const char*>(&magic), 4) + std::string(900, '\0'));
  EXPECT_THAT(error_of([&] { Shard shard(path); }).what(), HasSubstr("less than llm.c's header"));
}

}  // namespace
}  // namespace polar::test
