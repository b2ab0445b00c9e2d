// tokenizer.json for transformers: its BPE, carried out here as the `tokenizers` library does it, must give
// the ids of SentencePiece.
#include "data/hf_tokenizer.h"

#include <gmock/gmock.h>
#include <sentencepiece_trainer.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "data/sentencepiece_model.h"
#include "data/support.h"
#include "data/tokenizer.h"

namespace polar::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kSpace = "\xE2\x96\x81";

// Byte-pair encoding by ranks: of all neighbours that may be merged, the ones of the lowest rank, leftmost
// first.
class JsonBpe {
 public:
  explicit JsonBpe(const json& file) {
    for (const auto& [piece, id] : file["model"]["vocab"].items()) ids_[piece] = id.get<int32_t>();
    for (const json& merge : file["model"]["merges"])
      ranks_.emplace(merge[0].get<std::string>() + '\n' + merge[1].get<std::string>(), ranks_.size());
    for (const json& token : file["added_tokens"])
      if (!token["special"].get<bool>()) own_.push_back(token["content"].get<std::string>());
  }

  std::vector<int32_t> encode(std::string_view text) const {
    std::vector<int32_t> ids;
    std::string segment;
    while (!text.empty()) {
      const auto own =
          std::find_if(own_.begin(), own_.end(), [&](const auto& o) { return text.starts_with(o); });
      if (own != own_.end()) {
        merge_segment(segment, ids);
        segment.clear();
        ids.push_back(ids_.at(*own));
        text.remove_prefix(own->size());
        continue;
      }
      segment += text.front() == ' ' ? std::string(kSpace) : std::string(1, text.front());
      text.remove_prefix(1);
    }
    merge_segment(segment, ids);
    return ids;
  }

 private:
  void merge_segment(const std::string& segment, std::vector<int32_t>& ids) const {
    std::vector<std::string> symbols;
    for (char c : segment) {
      if (symbols.empty() || (static_cast<unsigned char>(c) & 0xC0) != 0x80) symbols.emplace_back();
      symbols.back() += c;
    }
    while (true) {
      size_t best = std::numeric_limits<size_t>::max(), place = 0;
      for (size_t i = 0; i + 1 < symbols.size(); ++i) {
        const auto rank = ranks_.find(symbols[i] + '\n' + symbols[i + 1]);
        if (rank != ranks_.end() && rank->second < best) best = rank->second, place = i;
      }
      if (best == std::numeric_limits<size_t>::max()) break;
      symbols[place] += symbols[place + 1];
      symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(place) + 1);
    }
    for (const std::string& symbol : symbols) append(symbol, ids);
  }
  void append(const std::string& symbol, std::vector<int32_t>& ids) const {
    if (const auto id = ids_.find(symbol); id != ids_.end()) return ids.push_back(id->second);
    for (char c : symbol) ids.push_back(ids_.at(fmt::format("<0x{:02X}>", static_cast<unsigned char>(c))));
  }

  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_map<std::string, size_t> ranks_;
  std::vector<std::string> own_;
};

// Trains with the settings of `polartrain tokenizer train` and further ones of the test's own.
fs::path train(const TemporaryDirectory& folder, const std::string& settings) {
  const fs::path prefix = folder / "tokenizer";
  put(folder / "text.txt", read_file(fs::path(POLAR_SOURCE_DIR) / "LICENSE"));
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      "--input=" + (folder / "text.txt").string() + " --model_prefix=" + prefix.string() +
      " --vocab_size=700 --byte_fallback=true --minloglevel=2 " + settings);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return prefix.string() + ".model";
}

constexpr const char* kOurs =
    "--model_type=bpe --normalization_rule_name=identity --remove_extra_whitespaces=false "
    "--add_dummy_prefix=false";

TEST(HfTokenizer, GivesTheIdsOfSentencePiece) {
  const TemporaryDirectory folder;
  const fs::path model = train(folder, kOurs);
  const auto reference = load_tokenizer(model.string());
  const HfTokenizer hf = to_hf_tokenizer(model);
  ASSERT_EQ(hf.obstacle, "");
  const JsonBpe bpe(json::parse(hf.files.at("tokenizer.json")));
  std::vector<std::string> texts{
      "", " ", "  two  spaces ", "na\xC3\xAFve \xE6\x97\xA5\xE6\x9C\xAC", "tab\there", "----------"};
  std::istringstream license(read_file(fs::path(POLAR_SOURCE_DIR) / "LICENSE"));
  for (std::string line; std::getline(license, line);) texts.push_back(line);
  ASSERT_GT(texts.size(), 150u);
  for (const std::string& text : texts) EXPECT_EQ(bpe.encode(text), reference->encode(text)) << text;
}

TEST(HfTokenizer, GivesTheIdsOfOurTraining) {
  const fs::path model = small_model();
  const auto reference = load_tokenizer(model.string());
  const HfTokenizer hf = to_hf_tokenizer(model);
  ASSERT_EQ(hf.obstacle, "");
  const JsonBpe bpe(json::parse(hf.files.at("tokenizer.json")));
  const std::string text = austen(60'000);
  for (size_t begin = 0; begin < text.size(); begin += 400) {  // pieces of several lines
    const std::string part = text.substr(begin, 400);
    EXPECT_EQ(bpe.encode(part), reference->encode(part)) << part;
  }
}

TEST(HfTokenizer, UserDefinedSymbolsCutTheText) {
  const TemporaryDirectory folder;
  const fs::path model = train(folder, std::string(kOurs) + " --user_defined_symbols=ing,<tab>");
  const auto reference = load_tokenizer(model.string());
  const JsonBpe bpe(json::parse(to_hf_tokenizer(model).files.at("tokenizer.json")));
  for (const char* text : {"licensing the work", "<tab>ing<tab>", "in g"})
    EXPECT_EQ(bpe.encode(text), reference->encode(text)) << text;
}

TEST(HfTokenizer, TokenizerConfigNamesTheControlTokens) {
  const TemporaryDirectory folder;
  const json config = json::parse(to_hf_tokenizer(train(folder, kOurs)).files.at("tokenizer_config.json"));
  EXPECT_EQ(config["bos_token"], "<s>");
  EXPECT_EQ(config["eos_token"], "</s>");
  EXPECT_EQ(config["unk_token"], "<unk>");
  EXPECT_FALSE(config.contains("pad_token"));
}

TEST(HfTokenizer, WhatItCannotExpressIsAnObstacle) {
  const TemporaryDirectory folder;
  const auto obstacle = [&](const char* settings) {
    const HfTokenizer hf = to_hf_tokenizer(train(folder, settings));
    EXPECT_TRUE(hf.files.empty());
    return hf.obstacle;
  };
  EXPECT_THAT(obstacle("--model_type=bpe"), HasSubstr("normalises"));
  EXPECT_THAT(obstacle("--model_type=bpe --normalization_rule_name=identity"), HasSubstr("extra spaces"));
  EXPECT_THAT(
      obstacle("--model_type=bpe --normalization_rule_name=identity --remove_extra_whitespaces=false"),
      HasSubstr("a space before"));
}

TEST(SentencePieceModelFile, DamagedFilesAreRefused) {
  const TemporaryDirectory folder;
  const std::string good = read_file(train(folder, kOurs));
  const auto read = [&](const std::string& content) {
    return read_sentencepiece_model(put(folder / "x.model", content));
  };
  EXPECT_EQ(read(good).pieces.size(), 700u);
  for (const std::string& bad : {std::string(), std::string("hello"), std::string(100, '\xFF')})
    EXPECT_THROW(read(bad), Error);
  for (size_t i = 0; i < good.size(); i += 97) {  // may or may not be noticed; must not crash
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x80);
    try {
      read(bad);
      read(good.substr(0, i));
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace polar::test
