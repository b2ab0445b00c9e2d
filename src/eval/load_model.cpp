#include "eval/load_model.h"

#include <vector>

#include "base/error.h"
#include "checkpoint/parameters.h"
#include "eval/exchange.h"
#include "model/hf_config.h"

namespace polar {
namespace fs = std::filesystem;

ModelConfig read_model_config(const fs::path& directory) {
  if (!fs::exists(directory / "config.json"))
    fail_usage("{}: no config.json there; expected a checkpoint, an export or a Hugging Face directory",
               directory.string());
  return read_hf_config(directory / "config.json").model;
}

void load_weights(Ops& ops, Model& model, const fs::path& directory) {
  const TensorSource source(directory);
  const ParameterRegistry& registry = model.registry();
  check_parameters(source, registry, tied_copies(model.config()));
  std::vector<std::byte> host;
  for (int i = 0; i < static_cast<int>(registry.parameters().size()); ++i) {
    const Tensor to = model.parameter(i);
    host.resize(to.bytes());
    source.read(registry[i].name, {host.data(), to.dtype, to.shape});
    ops.upload(to, host.data());
  }
  model.refresh_weights();
}

LoadedModel::LoadedModel(Ops& ops, const fs::path& directory, ModelUse use)
    : model_(read_model_config(directory), (use.training = false, use)) {
  model_.plan(plan_, ops);
  memory_.emplace(plan_, ops, MemoryKind::device);
  model_.bind(ops, memory_->arena());
  load_weights(ops, model_, directory);
}

std::string find_tokenizer(const fs::path& directory) {
  for (const char* name : {"tokenizer.model", "tokenizer.json"})
    if (fs::exists(directory / name)) return (directory / name).string();
  return {};
}

}  // namespace polar
