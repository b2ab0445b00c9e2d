// The training loop: batches, forward and backward, optimizer, evaluation, checkpoints, stopping.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "base/error.h"
#include "comm/communicator.h"
#include "config/experiment.h"
#include "data/loader.h"
#include "data/prefetcher.h"
#include "eval/evaluate.h"
#include "ops/memory.h"
#include "plan/run_plan.h"
#include "train/checkpointing.h"

namespace polar {

// Everything of a run that computes, without files: one call of step() is one optimizer update. After the
// first step nothing is allocated.
class Trainer {
 public:
  // Plans and allocates. Errors: exit code 2 for what the configuration asks in vain.
  Trainer(const Experiment& experiment, Ops& ops, Communicator& comm);

  // Random weights, or those of train.init_from.
  void initialize();
  // Starts filling batches from the step that `progress` says (after initialize or restore).
  void start();

  // What a step came to, read back from the device.
  struct Outcome {
    double loss = 0.0, gradient_norm = 0.0;
    bool applied = true;
    int64_t consecutive_skips = 0, total_skips = 0;
  };
  // One optimizer step: accumulation over micro-batches, clipping, guard, update. `interrupted` is asked
  // between micro-batches; if it says true the step is given up, nothing has changed, and step() returns
  // nothing.
  template <class Interrupted>
  std::optional<Outcome> step(const Interrupted& interrupted) {
    begin_step();
    for (int64_t micro = 0; micro < plan_.micro_steps; ++micro) {
      if (interrupted()) return std::nullopt;
      micro_step(micro);
    }
    return end_step();
  }

  Evaluation evaluate();
  bool has_validation() const { return validation_ != nullptr; }

  RunPlan& plan() { return plan_; }
  const RunPlan& plan() const { return plan_; }
  const PlannedMemory& device_memory() const { return device_; }
  const PlannedMemory& host_memory() const { return host_; }
  RunProgress& progress() { return progress_; }
  const RunProgress& progress() const { return progress_; }
  std::vector<double> learning_rates() const;  // of the last step
  double data_wait_seconds() const { return prefetcher_ ? prefetcher_->wait_seconds() : 0.0; }
  const Loader& training_data() const { return *training_; }

 private:
  void begin_step();
  void micro_step(int64_t micro);
  Outcome end_step();
  BatchTensors host_tensors(const InputIds& ids) const;

  const Experiment& experiment_;
  Ops& ops_;
  Communicator& comm_;
  RunPlan plan_;
  PlannedMemory device_, host_;
  std::unique_ptr<Loader> training_, validation_;
  RunProgress progress_;
  std::unique_ptr<Prefetcher> prefetcher_;
  Prefetcher::View view_;
  double valid_tokens_ = 0.0;
};

}  // namespace polar
