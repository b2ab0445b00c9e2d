#include "eval/exchange.h"

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "data/hf_tokenizer.h"
#include "model/hf_config.h"
#include "model/registry.h"

namespace polar {
namespace fs = std::filesystem;
namespace {

constexpr const char* kTokenizerFiles[] = {"tokenizer.model",
                                           "tokenizer.json",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "vocab.json",
                                           "merges.txt",
                                           "chat_template.jinja",
                                           "generation_config.json"};

TokenIds token_ids(const Tokenizer& tokenizer) {
  TokenIds ids;
  if (tokenizer.bos_id() >= 0) ids.bos = tokenizer.bos_id();
  if (tokenizer.eos_id() >= 0) ids.eos = {tokenizer.eos_id()};
  return ids;
}

bool contains(const std::vector<SmallFile>& files, std::string_view name) {
  return std::any_of(files.begin(), files.end(), [&](const SmallFile& f) { return f.name == name; });
}

// Adds what transformers needs beside a SentencePiece model. Returns why it cannot be done, or nothing.
std::string add_hf_tokenizer(const fs::path& sentencepiece_model, std::vector<SmallFile>& files) {
  HfTokenizer hf = to_hf_tokenizer(sentencepiece_model);
  for (auto& [name, content] : hf.files)
    if (!contains(files, name)) files.push_back({name, std::move(content)});
  return hf.obstacle;
}

// The tokenizer's own file and what transformers needs beside it: of a SentencePiece model the translation
// (if it has an obstacle, tokenizer.model stands alone), of a tokenizer.json the configuration that lies next
// to it.
void add_tokenizer(const fs::path& path, std::vector<SmallFile>& files) {
  if (path.extension() != ".json") {
    files.push_back({"tokenizer.model", read_file(path)});
    add_hf_tokenizer(path, files);
    return;
  }
  files.push_back({"tokenizer.json", read_file(path)});
  const fs::path config = path.parent_path() / "tokenizer_config.json";
  if (fs::exists(config)) files.push_back({"tokenizer_config.json", read_file(config)});
}

void check_output(const fs::path& output) {
  if (fs::exists(output) && (!fs::is_directory(output) || !fs::is_empty(output)))
    fail_usage("{} exists already; remove it or choose another --output", output.string());
}

std::vector<SmallFile> collect_files(const fs::path& source, const HfConfig& hf, std::string_view dtype,
                                     std::vector<std::string>& warnings) {
  std::vector<SmallFile> files{{"config.json", to_hf_json(hf.model, hf.tokens, dtype).dump(2) + "\n"}};
  for (const char* name : kTokenizerFiles)
    if (fs::exists(source / name)) files.push_back({name, read_file(source / name)});
  if (!contains(files, "generation_config.json"))
    files.push_back({"generation_config.json", to_hf_generation_json(hf.tokens).dump(2) + "\n"});
  const bool has_model = contains(files, "tokenizer.model");
  if (has_model && !contains(files, "tokenizer.json")) {
    const std::string obstacle = add_hf_tokenizer(source / "tokenizer.model", files);
    if (!obstacle.empty())
      warnings.push_back(
          fmt::format("no tokenizer.json was made from tokenizer.model, because {}", obstacle));
  } else if (!has_model && !contains(files, "tokenizer.json")) {
    warnings.push_back("there is no tokenizer");
  }
  if (has_model && hf.model.architecture == Architecture::qwen2)
    warnings.push_back(
        "AutoTokenizer of transformers 5 takes Qwen2Tokenizer for every qwen2 model, which is wrong for a "
        "SentencePiece vocabulary: load the tokenizer with PreTrainedTokenizerFast.from_pretrained");
  if (hf.model.logit_softcap != 0.0)
    warnings.push_back(fmt::format("transformers ignores logit_softcap ({}): its logits will differ",
                                   hf.model.logit_softcap));
  return files;
}

}  // namespace

std::vector<SmallFile> hf_files(const ModelConfig& model, const Tokenizer* tokenizer,
                                int64_t sequence_length) {
  ModelConfig complete = model;
  if (complete.max_position_embeddings == 0) complete.max_position_embeddings = sequence_length;
  const TokenIds ids = tokenizer == nullptr ? TokenIds{} : token_ids(*tokenizer);
  std::vector<SmallFile> files{{"config.json", to_hf_json(complete, ids, "float32").dump(2) + "\n"},
                               {"generation_config.json", to_hf_generation_json(ids).dump(2) + "\n"}};
  if (tokenizer != nullptr && !tokenizer->path().empty()) add_tokenizer(tokenizer->path(), files);
  return files;
}

std::vector<TiedCopy> tied_copies(const ModelConfig& model) {
  if (!model.tie_word_embeddings) return {};
  return {{"lm_head.weight", "model.embed_tokens.weight"}};
}

Converted convert_model(const Conversion& conversion) {
  check_output(conversion.output);
  Converted done;
  done.source = resolve_checkpoint(conversion.source);
  const HfConfig hf = read_hf_config(done.source / "config.json");
  done.model = hf.model;
  const TensorSource weights(done.source);
  if (hf.model.num_hidden_layers > static_cast<int64_t>(weights.names().size()))
    fail("{}: {} layers, but only {} tensors stand beside it", (done.source / "config.json").string(),
         hf.model.num_hidden_layers, weights.names().size());
  const ParameterRegistry registry = make_registry(hf.model);
  done.parameters = registry.parameter_count();

  CheckpointContent content;
  content.files = collect_files(done.source, hf, conversion.dtype, done.warnings);
  std::vector<float> memory(static_cast<size_t>(registry.flat_count()));
  const Tensor flat{memory.data(), DType::f32, {registry.flat_count()}};
  read_parameters(weights, registry, flat, tied_copies(hf.model));
  content.model = named_parameters(registry, flat);
  if (conversion.dtype == "bfloat16") content.floats_as = DType::bf16;
  write_checkpoint(conversion.output, content);
  for (const SmallFile& file : content.files) done.files.push_back(file.name);
  return done;
}

}  // namespace polar
