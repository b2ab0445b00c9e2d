#include "eval/load_model.h"

#include <set>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "checkpoint/safetensors.h"
#include "model/hf_config.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

// One line for each way in which the file's tensors are not the model's parameters.
std::string disagreements(const ParameterRegistry& registry, const ModelConfig& config,
                          const TensorSource& source) {
  std::string out;
  std::set<std::string> known;
  for (const Parameter& p : registry.parameters()) {
    known.insert(p.name);
    if (!source.contains(p.name))
      out += fmt::format("\n  missing: {} {}", p.name, p.shape.text());
    else if (!(source.info(p.name).shape == p.shape))
      out += fmt::format("\n  {}: found {}, expected {}", p.name, source.info(p.name).shape.text(),
                         p.shape.text());
  }
  if (config.tie_word_embeddings) known.insert("lm_head.weight");
  for (const std::string& name : source.names())
    if (!known.contains(name)) out += fmt::format("\n  unexpected: {}", name);
  return out;
}

}  // namespace

ModelConfig read_model_config(const fs::path& directory) {
  if (!fs::exists(directory / "config.json"))
    fail_usage("{}: no config.json there; expected a checkpoint, an export or a Hugging Face directory",
               directory.string());
  return read_hf_config(directory / "config.json").model;
}

void load_weights(Ops& ops, const Model& model, const fs::path& directory) {
  const TensorSource source(directory);
  const ParameterRegistry& registry = model.registry();
  const std::string wrong = disagreements(registry, model.config(), source);
  if (!wrong.empty()) fail_usage("{}: the weights do not fit the model:{}", directory.string(), wrong);
  std::vector<std::byte> host;
  for (int i = 0; i < static_cast<int>(registry.parameters().size()); ++i) {
    const Tensor to = model.parameter(i);
    host.resize(to.bytes());
    source.read(registry[i].name, {host.data(), to.dtype, to.shape});
    ops.upload(to, host.data());
    ops.synchronize();
  }
}

LoadedModel::LoadedModel(Ops& ops, const fs::path& directory, ModelUse use)
    : model_(read_model_config(directory), (use.training = false, use)) {
  model_.plan(plan_, ops);
  memory_.emplace(plan_, ops, MemoryKind::device);
  model_.bind(ops, memory_->arena());
  load_weights(ops, model_, directory);
}

std::string find_tokenizer(const fs::path& directory) {
  const fs::path model = directory / "tokenizer.model";
  return fs::exists(model) ? model.string() : std::string{};
}

}  // namespace polar
