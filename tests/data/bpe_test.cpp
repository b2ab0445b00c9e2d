// tokenizer.json against the ids of Hugging Face's tokenizers (tools/reference/tokenizers_bpe.py).
#include "data/bpe.h"

#include <gmock/gmock.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "data/support.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::HasSubstr;

fs::path golden(const std::string& name) {
  return fs::path(POLAR_GOLDEN_DIR) / "data" / name;
}

class Bpe : public testing::TestWithParam<const char*> {};

TEST_P(Bpe, IdsAreThoseOfTheReference) {
  const auto tokenizer = load_tokenizer(golden(std::string(GetParam()) + ".json").string());
  const json cases = json::parse(read_file(golden(std::string(GetParam()) + "_ids.json")));
  ASSERT_GE(cases.size(), 15u);
  for (const json& expected : cases) {
    const auto text = expected["text"].get<std::string>();
    const std::vector<int32_t> ids = tokenizer->encode(text);
    EXPECT_EQ(ids, expected["ids"].get<std::vector<int32_t>>()) << text;
    // Qwen's normal form C joins the accents of the decomposed text; everything else comes back as it was.
    if (text.find("decomposed") == std::string::npos || GetParam() == std::string("gpt2")) {
      EXPECT_EQ(tokenizer->decode(ids), text);
    }
  }
  EXPECT_EQ(tokenizer->vocab_size(), 600);
  EXPECT_EQ(tokenizer->eos_id(), 0);
  EXPECT_EQ(tokenizer->bos_id(), -1);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Bpe, testing::Values("gpt2", "qwen"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST(Bpe, SpelledOutSpecialTokensAreText) {
  const auto tokenizer = load_tokenizer(golden("qwen.json").string());
  const std::vector<int32_t> ids = tokenizer->encode("a<|endoftext|>b");
  EXPECT_THAT(ids, testing::Not(testing::Contains(tokenizer->eos_id())));
  EXPECT_EQ(tokenizer->decode(ids), "a<|endoftext|>b");
  EXPECT_EQ(tokenizer->token_bytes(tokenizer->eos_id()), "");
}

TEST(Bpe, TheConfigBesideItNamesBosAndEos) {
  const TemporaryDirectory folder;
  json root = json::parse(read_file(golden("qwen.json")));
  root["added_tokens"] = {{{"id", 0}, {"content", "<begin>"}, {"special", true}},
                          {{"id", 601}, {"content", "<end>"}, {"special", true}},
                          {{"id", 602}, {"content", "<tool>"}, {"special", false}}};
  put(folder / "tokenizer.json", root.dump());
  put(folder / "tokenizer_config.json", R"({"bos_token": "<begin>", "eos_token": {"content": "<end>"}})");
  const auto tokenizer = load_tokenizer((folder / "tokenizer.json").string());
  EXPECT_EQ(tokenizer->bos_id(), 0);
  EXPECT_EQ(tokenizer->eos_id(), 601);
  EXPECT_EQ(tokenizer->vocab_size(), 603);
  EXPECT_EQ(tokenizer->token_bytes(602), "<tool>");
}

TEST(Bpe, WhatIsNotSupportedIsNamed) {
  const TemporaryDirectory folder;
  const auto message = [&](const std::function<void(json&)>& change) {
    json root = json::parse(read_file(golden("qwen.json")));
    change(root);
    put(folder / "tokenizer.json", root.dump());
    const Error error = error_of([&] { load_tokenizer((folder / "tokenizer.json").string()); });
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json"));
    return std::string(error.what());
  };
  EXPECT_THAT(message([](json& r) { r = json::array(); }), HasSubstr("found array"));
  EXPECT_THAT(message([](json& r) { r.erase("model"); }), HasSubstr("model"));
  EXPECT_THAT(message([](json& r) { r["model"]["type"] = "Unigram"; }), HasSubstr("expected BPE"));
  EXPECT_THAT(message([](json& r) { r["model"]["byte_fallback"] = true; }), HasSubstr("byte_fallback"));
  EXPECT_THAT(message([](json& r) { r["model"]["vocab"].erase("a"); }), HasSubstr("byte 0x61"));
  EXPECT_THAT(message([](json& r) { r["model"]["vocab"]["a"] = -5; }), HasSubstr("id -5"));
  EXPECT_THAT(message([](json& r) { r["model"]["vocab"]["a"] = 4'000'000'000; }), HasSubstr("id 4000000000"));
  EXPECT_THAT(message([](json& r) { r["model"]["vocab"]["a"] = "x"; }), HasSubstr("number"));
  EXPECT_THAT(message([](json& r) { r["model"]["merges"][3] = json{"zq", "xj"}; }), HasSubstr("merge 3"));
  EXPECT_THAT(message([](json& r) { r["model"]["merges"][3] = "single"; }), HasSubstr("merge 3"));
  EXPECT_THAT(message([](json& r) { r["normalizer"] = {{"type", "Lowercase"}}; }), HasSubstr("Lowercase"));
  EXPECT_THAT(message([](json& r) {
                r["pre_tokenizer"] = {{"type", "Whitespace"}};
              }),
              HasSubstr("Whitespace"));
  EXPECT_THAT(message([](json& r) { r["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a"; }),
              HasSubstr("not understood"));
}

}  // namespace
}  // namespace polar::test
