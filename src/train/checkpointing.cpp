#include "train/checkpointing.h"

#include <cmath>
#include <cstdlib>
#include <map>

#include "base/error.h"
#include "base/file.h"
#include "checkpoint/safetensors.h"
#include "data/tokenizer.h"
#include "eval/exchange.h"
#include "train/parameters.h"

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

// Of all ranks.
int64_t step_sequences(const RunPlan& plan) {
  return plan.sequences_per_step * plan.topology.world_size;
}

// A part of a parameter that is cut over the ranks: "adamw.m:lm_head.weight[4096:8192]", elements.
std::string name_in_file(const StateTensor& state) {
  if (state.whole) return state.name;
  return fmt::format("{}[{}:{}]", state.name, state.begin, state.begin + state.tensor.count());
}

// The parts of a cut tensor in a checkpoint, by their first element.
std::map<int64_t, std::string> parts_of(const TensorSource& source, const std::string& name) {
  std::map<int64_t, std::string> parts;
  for (const std::string& candidate : source.names())
    if (candidate.starts_with(name + "["))
      parts[std::strtoll(candidate.c_str() + name.size() + 1, nullptr, 10)] = candidate;
  return parts;
}

// The elements that `state` holds, however the ranks that wrote them had cut them.
void read_state_tensor(Ops& ops, const TensorSource& source, const StateTensor& state) {
  if (state.whole && source.contains(state.name))
    return read_to_device(ops, source, state.name, state.tensor);
  std::vector<std::byte> host(state.tensor.bytes());
  const Tensor all{host.data(), state.tensor.dtype, {state.tensor.count()}};
  const int64_t begin = state.begin, end = begin + all.count();
  int64_t done = begin;
  const auto copy = [&](const std::string& name, int64_t first) {
    const int64_t last = std::min(end, first + source.info(name).shape.count());
    if (first > done || last <= done) return;
    source.read_range(name, done - first, all.slice(done - begin, {last - done}));
    done = last;
  };
  if (source.contains(state.name))
    copy(state.name, 0);
  else
    for (const auto& [first, name] : parts_of(source, state.name)) copy(name, first);
  if (done < end)
    fail("{}: of {} the elements from {} on are missing; {} to {} are wanted", source.path().string(),
         state.name, done, begin, end);
  ops.upload(state.tensor, host.data());
}

}  // namespace

CheckpointContent take_snapshot(Ops& ops, const RunPlan& plan, const PlannedMemory& device,
                                const PlannedMemory& host, ShardExchange* exchange,
                                const Experiment& experiment, const RunProgress& progress) {
  CheckpointContent content;
  snapshot_parameters(ops, plan, device, host, exchange);
  for (const RunPlan::Written& written : plan.written) {
    const Parameter& parameter = plan.model.registry()[written.parameter];
    content.model.push_back(
        {parameter.name, host[plan.snapshot_parameters].slice(written.offset, parameter.shape)});
  }

  const std::vector<StateTensor> states = plan.optimizer.state();
  for (size_t i = 0; i < states.size(); ++i) {
    const Tensor copy = host[plan.snapshot_optimizer[i]];
    ops.download(copy.data, states[i].tensor);
    content.optimizer.push_back({name_in_file(states[i]), copy});
  }
  const auto add_control = [&](const char* name, BufferId from, BufferId to) {
    ops.download(host[to].data, device[from]);
    if (plan.topology.rank == 0) content.optimizer.push_back({name, host[to]});
  };
  add_control(kControlName, plan.control, plan.snapshot_control);
  add_control(kWindowName, plan.guard_window, plan.snapshot_window);
  ops.synchronize();

  content.state = {{"format", 1},
                   {"step", progress.step},
                   {"tokens", progress.tokens},
                   {"seed", experiment.run.seed},
                   {"next_sample", progress.step * step_sequences(plan)},
                   {"max_steps", experiment.train.max_steps},
                   {"config_hash", config_hash(experiment)},
                   {"best_step", progress.best_step}};
  if (std::isfinite(progress.best_val_loss)) content.state["best_val_loss"] = progress.best_val_loss;
  return content;
}

RunProgress restore(Ops& ops, RunPlan& plan, const PlannedMemory& device, const fs::path& checkpoint) {
  load_parameters(ops, plan, device, checkpoint);
  const TensorSource optimizer(checkpoint, "optimizer");
  for (const StateTensor& state : plan.optimizer.state()) read_state_tensor(ops, optimizer, state);
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
    if (next_sample != progress.step * step_sequences(plan))
      fail("{}: next_sample is {}, expected {} steps of {} sequences", (checkpoint / "state.json").string(),
           next_sample, progress.step, step_sequences(plan));
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
