#include "data/hf_tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "data/sentencepiece_model.h"

namespace polar {
namespace {

using json = nlohmann::ordered_json;
using Kind = SentencePieceModel::Kind;
using PieceType = SentencePieceModel::PieceType;

constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581 stands for a space inside pieces

std::string obstacle_of(const SentencePieceModel& model) {
  if (model.kind != Kind::bpe && model.kind != Kind::unigram)
    return "it is neither a BPE nor a unigram model";
  if (model.has_character_map) return "it normalises characters";
  if (model.remove_extra_whitespaces) return "it removes extra spaces";
  if (model.add_dummy_prefix) return "it puts a space before every text";
  return "";
}

bool is_character_start(char c) {
  return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u;
}

// Every way to put a piece together from two others, the pieces in the order in which SentencePiece prefers
// them (by falling score, equal ones as they stand), the ways of one piece by the ids of their parts.
json rebuild_merges(const SentencePieceModel& model) {
  std::unordered_map<std::string_view, int64_t> ids;
  for (size_t id = 0; id < model.pieces.size(); ++id)
    if (model.pieces[id].type == PieceType::normal) ids[model.pieces[id].text] = static_cast<int64_t>(id);
  struct Merge {
    float score;
    int64_t piece, left, right;
  };
  std::vector<Merge> merges;
  for (const auto& [text, piece] : ids)
    for (size_t cut = 1; cut < text.size(); ++cut) {
      if (!is_character_start(text[cut])) continue;
      const auto left = ids.find(text.substr(0, cut)), right = ids.find(text.substr(cut));
      if (left != ids.end() && right != ids.end())
        merges.push_back(
            {model.pieces[static_cast<size_t>(piece)].score, piece, left->second, right->second});
    }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tuple(-a.score, a.piece, a.left, a.right) < std::tuple(-b.score, b.piece, b.left, b.right);
  });
  json list = json::array();
  for (const Merge& m : merges)
    list.push_back(
        {model.pieces[static_cast<size_t>(m.left)].text, model.pieces[static_cast<size_t>(m.right)].text});
  return list;
}

json bpe_model(const SentencePieceModel& model) {
  json vocabulary = json::object();
  // Appended, not looked up: ordered_json searches linearly.
  auto& entries = vocabulary.get_ref<json::object_t&>();
  for (size_t id = 0; id < model.pieces.size(); ++id)
    entries.push_back(std::pair<const std::string, json>(model.pieces[id].text, id));
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", model.pieces[static_cast<size_t>(model.unk_id)].text},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", true},
          {"byte_fallback", model.byte_fallback},
          {"ignore_merges", false},
          {"vocab", std::move(vocabulary)},
          {"merges", rebuild_merges(model)}};
}

json unigram_model(const SentencePieceModel& model) {
  json vocabulary = json::array();
  for (const auto& piece : model.pieces) vocabulary.push_back({piece.text, piece.score});
  return {{"type", "Unigram"},
          {"unk_id", model.unk_id},
          {"vocab", std::move(vocabulary)},
          {"byte_fallback", model.byte_fallback}};
}

// Control tokens are special (skipped when decoding), the user's own symbols are not; both cut the text.
json added_tokens(const SentencePieceModel& model) {
  json list = json::array();
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    const bool special = piece.type == PieceType::control || piece.type == PieceType::unknown;
    if (!special && piece.type != PieceType::user_defined) continue;
    list.push_back({{"id", id},
                    {"content", piece.text},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", special}});
  }
  return list;
}

json decoder() {
  json steps = json::array();
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", kSpaceSymbol}}}, {"content", " "}});
  steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

json tokenizer_json(const SentencePieceModel& model) {
  return {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added_tokens(model)},
      {"normalizer", nullptr},
      {"pre_tokenizer",
       {{"type", "Metaspace"}, {"replacement", kSpaceSymbol}, {"prepend_scheme", "never"}, {"split", false}}},
      {"post_processor", nullptr},
      {"decoder", decoder()},
      {"model", model.kind == Kind::bpe ? bpe_model(model) : unigram_model(model)}};
}

json tokenizer_config(const SentencePieceModel& model) {
  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false},
                 {"add_bos_token", false},
                 {"add_eos_token", false}};
  const auto put = [&](const char* key, int64_t id) {
    if (id >= 0) config[key] = model.pieces[static_cast<size_t>(id)].text;
  };
  put("unk_token", model.unk_id);
  put("bos_token", model.bos_id);
  put("eos_token", model.eos_id);
  put("pad_token", model.pad_id);
  return config;
}

}  // namespace

HfTokenizer to_hf_tokenizer(const std::filesystem::path& path) {
  const SentencePieceModel model = read_sentencepiece_model(path);
  HfTokenizer hf;
  hf.obstacle = obstacle_of(model);
  if (!hf.obstacle.empty()) return hf;
  hf.files["tokenizer.json"] = tokenizer_json(model).dump() + "\n";
  hf.files["tokenizer_config.json"] = tokenizer_config(model).dump(2) + "\n";
  return hf;
}

}  // namespace polar
