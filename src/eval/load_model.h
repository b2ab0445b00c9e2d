// Models from directories: a checkpoint of ours, an export, or a Hugging Face directory.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "model/model.h"
#include "ops/memory.h"
#include "ops/ops.h"

namespace polar {

// config.json of a checkpoint or HF directory. Errors (exit code 2) name the file.
ModelConfig read_model_config(const std::filesystem::path& directory);

// Reads every parameter of a bound model by its name, converting to its dtype. Errors (exit code 2) list what
// is missing, unexpected or of another shape. A tied model may bring an lm_head.weight equal in shape: it is
// ignored.
void load_weights(Ops& ops, Model& model, const std::filesystem::path& directory);
// The same for who keeps them elsewhere: take(index, values) for each parameter, in `dtype` in host memory,
// valid during the call.
void read_weights(const Model& model, DType dtype, const std::filesystem::path& directory,
                  const std::function<void(int, const void*)>& take);

// A model for evaluation and generation: configuration, memory and weights of a directory.
class LoadedModel {
 public:
  // `use.training` is set to false. Errors as above; exit code 2 if `directory` is no model's.
  LoadedModel(Ops& ops, const std::filesystem::path& directory, ModelUse use);
  Model& model() { return model_; }

 private:
  Model model_;
  MemoryPlan plan_;
  std::optional<PlannedMemory> memory_;
};

// data.tokenizer for a directory: its tokenizer.model, else its tokenizer.json; empty if
// there is neither.
std::string find_tokenizer(const std::filesystem::path& directory);

}  // namespace polar
