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

void read_weights(const Model& model, DType dtype, const fs::path& directory,
                  const std::function<void(int, const void*)>& take) {
  const TensorSource source(directory);
  const ParameterRegistry& registry = model.registry();
  check_parameters(source, registry, tied_copies(model.config()));
  std::vector<std::byte> host;
  for (int i = 0; i < static_cast<int>(registry.parameters().size()); ++i) {
    const Parameter& parameter = registry[i];
    host.resize(static_cast<size_t>(parameter.count()) * size_of(dtype));
    source.read(parameter.name, {host.data(), dtype, parameter.shape});
    take(i, host.data());
  }
}

void load_weights(Ops& ops, Model& model, const fs::path& directory) {
  read_weights(model, model.parameters().dtype, directory,
               [&](int index, const void* values) { ops.upload(model.parameter(index), values); });
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
