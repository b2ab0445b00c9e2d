// The memory of a training run, planned: model, optimizer, batches, checkpoint snapshot, control. The trainer
// allocates exactly this; `polartrain plan` prints it without allocating.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/experiment.h"
#include "model/model.h"
#include "ops/ops.h"
#include "optim/optimizer.h"
#include "optim/shard_plan.h"
#include "tensor/memory_plan.h"

namespace polar {

// Places of the arrays of a batch: sequences x time, i32.
struct InputIds {
  BufferId ids, targets, document_starts;  // the last only with Packing::documents
};

// Which of how many ranks.
struct Topology {
  int rank = 0, world_size = 1;
};

// Everything of a run that has a size, on one rank; `device` and `host` are complete when the constructor
// returns. Errors: exit code 2 for sizes that do not fit together.
struct RunPlan {
  RunPlan(const Experiment& experiment, const Ops& ops, const Topology& topology = {});

  Topology topology;

  int64_t sequences_per_step;  // of this rank
  int64_t micro_sequences;
  int64_t micro_steps;  // accumulation

  Model model;
  std::optional<ShardPlan> shards;  // with more than one rank
  Optimizer optimizer;              // of what is this rank's
  std::string optimizer_table;      // of all: Optimizer::table
  MemoryPlan device, host;

  // On the device: micro-batches (two where one can be copied while the other is computed with), and the
  // scalars of a step. step_inputs: what the host says of a step, see below.
  std::vector<InputIds> input;
  BufferId backend_workspace, step_inputs, loss_sum, gradient_squares, guard_window, control;

  // f64 elements of step_inputs: the valid tokens of the global batch, then the groups' learning rates.
  int64_t step_input_count() const { return 1 + static_cast<int64_t>(optimizer.group_count()); }

  // On the host, for the steps that may be queued at once (kQueuedSteps): their inputs, and the control read
  // back after them.
  static constexpr int64_t kQueuedSteps = 2;
  BufferId queued_inputs, queued_controls;

  // With more than one rank. own_gradients: this rank's parts of all buckets, end to end. travelling: whole
  // buckets on their way, taken in turn.
  BufferId own_gradients;
  std::array<BufferId, 2> travelling;

  // On the host: the ring of steps that is filled ahead, one micro-batch for evaluation, and what a
  // checkpoint is written from while the training goes on.
  std::vector<InputIds> input_ring;
  InputIds evaluation_input;
  BufferId snapshot_parameters, snapshot_window, snapshot_control;
  std::vector<BufferId> snapshot_optimizer;  // in the order of Optimizer::state()
};

// f64 elements of the guard's window (see StepControl::window).
int64_t guard_window_elements(const GuardConfig& guard);

}  // namespace polar
