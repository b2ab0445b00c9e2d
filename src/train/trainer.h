// The training loop: batches, forward and backward, optimizer, evaluation, checkpoints, stopping.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "comm/communicator.h"
#include "config/experiment.h"
#include "data/loader.h"
#include "data/prefetcher.h"
#include "eval/evaluate.h"
#include "ops/memory.h"
#include "plan/run_plan.h"
#include "train/checkpointing.h"
#include "train/diagnostics.h"
#include "train/pairwise_sum.h"
#include "train/shard_exchange.h"

namespace polar {

// Everything of a run that computes, without files. A step is queued by queue_step() and read back by
// next_outcome(): between the two the host may queue one more, so that the device never waits for it. After
// the first steps nothing is allocated on the device, nor on the host by queueing.
class Trainer {
 public:
  // Plans and allocates. Errors: exit code 2 for what the configuration asks in vain.
  Trainer(const Experiment& experiment, Ops& ops, Communicator& comm);

  // Random weights, or those of train.init_from; or everything of a checkpoint. Then share_weights().
  void initialize();
  void restore(const std::filesystem::path& checkpoint);
  // Sends the weights to the other ranks where each has set those that it owns only.
  void share_weights();
  // Starts filling batches from the step that `progress` says (after initialize or restore).
  void start();

  // What a step came to, read back from the device.
  struct Outcome {
    int64_t step = 0, tokens = 0;  // done up to it, itself included
    double loss = 0.0, gradient_norm = 0.0;
    bool applied = true;
    int64_t consecutive_skips = 0, total_skips = 0;
  };
  // Queues one optimizer step: accumulation over micro-batches, clipping, guard, update. `interrupted` is
  // asked between micro-batches (with several ranks, which have to agree, before the step only); if it says
  // true the step is given up: nothing has changed, and the result is false. At most RunPlan::kQueuedSteps
  // outcomes may wait to be read back.
  template <class Interrupted>
  bool queue_step(const Interrupted& interrupted) {
    if (!begin_step(interrupted())) return false;
    for (int64_t micro = 0; micro < plan_.micro_steps; ++micro) {
      if (!exchange_ && interrupted()) return false;
      micro_step(micro);
    }
    end_step();
    return true;
  }
  // Queued steps whose outcome was not read back yet.
  int64_t pending() const { return pending_; }
  // Whether next_outcome() would not wait.
  bool outcome_ready() { return pending_ > 0 && ops_.reached(*done_[oldest_slot()]); }
  // The outcome of the oldest of them.
  Outcome next_outcome();
  // Forgets the steps queued behind `last`, which the guard has made into nothing (guard_maximum_skips).
  void forget_queued(const Outcome& last);
  // Queues one step and waits for it.
  template <class Interrupted>
  std::optional<Outcome> step(const Interrupted& interrupted) {
    if (!queue_step(interrupted)) return std::nullopt;
    return next_outcome();
  }

  // The weights of every rank become those that the queued steps have made of them. To be called on all ranks
  // before the model is used otherwise than by the next step.
  void complete_weights();
  // Mean loss over the validation split; the ranks share its windows.
  Evaluation evaluate();
  // The state as a checkpoint, in the host's snapshot buffers (take_snapshot); on all ranks at once.
  CheckpointContent snapshot();
  bool parameters_are_finite();  // those of all ranks; on all ranks at once
  // Of the step whose outcome was read last, if no other is queued and it was applied; on all ranks at once.
  DiagnosticValues diagnose(Diagnostics& diagnostics, const Outcome& outcome);
  bool has_validation() const { return validation_ != nullptr; }

  RunPlan& plan() { return plan_; }
  const RunPlan& plan() const { return plan_; }
  const PlannedMemory& device_memory() const { return device_; }
  const PlannedMemory& host_memory() const { return host_; }
  RunProgress& progress() { return progress_; }
  const RunProgress& progress() const { return progress_; }  // the queued steps included
  double data_wait_seconds() const { return prefetcher_ ? prefetcher_->wait_seconds() : 0.0; }
  const Loader& training_data() const { return *training_; }

 private:
  // Stages of forward and backward up to `end` (exclusive) that are computed without a word between the
  // ranks: all of them where there is one rank.
  struct Piece {
    int64_t end = 0;
    std::unique_ptr<Repeated> work;
  };
  void prepare_steps();
  std::vector<Piece> make_pieces(size_t input);
  bool begin_step(bool interrupted);
  void upload_step_inputs(double valid_tokens);
  void upload_micro_batch(int64_t micro);
  void micro_step(int64_t micro);
  void end_step();
  uint64_t update_phase();
  void update(uint64_t phase);
  std::vector<int64_t> block_cuts() const;
  void sum_gradient_squares();
  Tensor losses() const;
  Tensor step_gradients() const;  // what the update reads: all, or this rank's parts
  StepControl step_control() const;
  StepTensors step_tensors() const;
  size_t slot_of(int64_t step) const { return static_cast<size_t>(step % RunPlan::kQueuedSteps); }
  size_t oldest_slot() const { return slot_of(progress_.step - pending_); }
  ModelBatch device_batch(size_t input) const;
  double* host_row(BufferId buffer, size_t row, int64_t columns) const {
    return host_[buffer].as<double>() + static_cast<int64_t>(row) * columns;
  }

  const Experiment& experiment_;
  Ops& ops_;
  Communicator& comm_;
  RunPlan plan_;
  PlannedMemory device_, host_;
  std::unique_ptr<Loader> training_, validation_;
  RunProgress progress_;
  std::unique_ptr<Prefetcher> prefetcher_;
  Prefetcher::View view_;

  // A place for a micro-batch on the device: filled ahead of the work that reads it.
  struct Input {
    BatchTensors tensors;
    std::unique_ptr<Mark> uploaded, used;
    std::vector<Piece> pieces;
  };
  std::vector<Input> inputs_;
  size_t next_input_ = 0;  // the place of the next micro-batch to be uploaded
  std::vector<int64_t> block_cuts_;
  std::optional<PairwiseSum> pairs_;       // with distributed.reduction invariant
  std::optional<ShardExchange> exchange_;  // with more than one rank
  std::unique_ptr<Mark> step_inputs_uploaded_, updated_;
  std::map<uint64_t, std::unique_ptr<Repeated>> updates_;  // by Optimizer::phase
  int64_t applied_steps_ = 0;                              // of the steps whose outcome was read
  std::array<std::unique_ptr<Mark>, RunPlan::kQueuedSteps> done_;
  int64_t pending_ = 0;
};

}  // namespace polar
