#include "train/checkpointing.h"

#include <cmath>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/safetensors.h"
#include "data/tokenizer.h"
#include "eval/exchange.h"
#include "eval/load_model.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

constexpr const char* kControlName = "trainer.step_control";
constexpr const char* kWindowName = "trainer.guard_window";

void read_to_device(Ops& ops, const TensorSource& source, const std::string& name, const Tensor& to) {
  std::vector<std::byte> host(to.bytes());
  source.read(name, {host.data(), to.dtype, to.shape});
  ops.upload(to, host.data());
}

}  // namespace

CheckpointContent take_snapshot(Ops& ops, const RunPlan& plan, const PlannedMemory& device,
                                const PlannedMemory& host, const Experiment& experiment,
                                const RunProgress& progress) {
  CheckpointContent content;
  const Tensor parameters = host[plan.snapshot_parameters];
  ops.download(parameters.data, plan.model.parameters());
  const ParameterRegistry& registry = plan.model.registry();
  for (int i = 0; i < static_cast<int>(registry.parameters().size()); ++i)
    content.model.push_back({registry[i].name, registry.view(parameters, i)});

  const std::vector<StateTensor> states = plan.optimizer.state();
  for (size_t i = 0; i < states.size(); ++i) {
    const Tensor copy = host[plan.snapshot_optimizer[i]];
    ops.download(copy.data, states[i].tensor);
    content.optimizer.push_back({states[i].name, copy});
  }
  const auto add_control = [&](const char* name, BufferId from, BufferId to) {
    ops.download(host[to].data, device[from]);
    content.optimizer.push_back({name, host[to]});
  };
  add_control(kControlName, plan.control, plan.snapshot_control);
  add_control(kWindowName, plan.guard_window, plan.snapshot_window);
  ops.synchronize();

  content.state = {{"format", 1},
                   {"step", progress.step},
                   {"tokens", progress.tokens},
                   {"seed", experiment.run.seed},
                   {"next_sample", progress.step * plan.sequences_per_step},
                   {"max_steps", experiment.train.max_steps},
                   {"config_hash", config_hash(experiment)},
                   {"best_step", progress.best_step}};
  if (std::isfinite(progress.best_val_loss)) content.state["best_val_loss"] = progress.best_val_loss;
  return content;
}

RunProgress restore(Ops& ops, RunPlan& plan, const PlannedMemory& device, const fs::path& checkpoint) {
  load_weights(ops, plan.model, checkpoint);
  const TensorSource optimizer(checkpoint, "optimizer");
  for (const StateTensor& state : plan.optimizer.state())
    read_to_device(ops, optimizer, state.name, state.tensor);
  read_to_device(ops, optimizer, kControlName, device[plan.control]);
  read_to_device(ops, optimizer, kWindowName, device[plan.guard_window]);

  const nlohmann::json state = read_state(checkpoint);
  RunProgress progress;
  try {
    progress.step = state.at("step").get<int64_t>();
    progress.tokens = state.at("tokens").get<int64_t>();
    progress.best_step = state.at("best_step").get<int64_t>();
    if (state.contains("best_val_loss")) progress.best_val_loss = state.at("best_val_loss").get<double>();
    const auto next_sample = state.at("next_sample").get<int64_t>();
    if (next_sample != progress.step * plan.sequences_per_step)
      fail("{}: next_sample is {}, expected {} steps of {} sequences", (checkpoint / "state.json").string(),
           next_sample, progress.step, plan.sequences_per_step);
  } catch (const nlohmann::json::exception& e) {
    fail("{}: {}", (checkpoint / "state.json").string(), e.what());
  }
  return progress;
}

std::vector<SmallFile> checkpoint_files(const Experiment& experiment) {
  std::shared_ptr<const Tokenizer> tokenizer;
  if (!experiment.data.tokenizer.empty()) tokenizer = load_tokenizer(experiment.data.tokenizer);
  std::vector<SmallFile> files = hf_files(experiment.model, tokenizer.get(), experiment.data.sequence_length);
  files.push_back({"config.yaml", to_yaml(experiment)});
  return files;
}

}  // namespace polar
