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
  // losses: of every micro-batch of the step, whoever computes it, with room for micro-batches of one
  // sequence; square_digits: Ops::exact_squares.
  BufferId backend_workspace, step_inputs, loss_sum, losses, square_digits, gradient_squares, guard_window,
      control;

  // f64 elements of step_inputs: the valid tokens of the global batch, then the groups' learning rates, then
  // their momentums' betas.
  int64_t step_input_count() const { return 1 + 2 * static_cast<int64_t>(optimizer.group_count()); }

  // On the host, for the steps that may be queued at once (kQueuedSteps): their inputs, and the control read
  // back after them.
  static constexpr int64_t kQueuedSteps = 2;
  BufferId queued_inputs, queued_controls;

  // With more than one rank. own_gradients: this rank's parts of all buckets, end to end (f32).
  // own_parameters: so for the parameters, where the weights are a rounded copy of them; else not set.
  // travelling: whole buckets on their way, taken in turn, bytes.
  BufferId own_gradients, own_parameters;
  std::array<BufferId, 2> travelling;
  DType gradient_dtype = DType::f32;  // on their way
  // distributed.sharding: gradients. They travel in every micro-batch; gradient_window of their elements
  // are shared by all buckets. arrived_gradients: a part in f32 where they travel in bf16.
  bool shards_gradients = false;
  int64_t gradient_window = 0;
  BufferId arrived_gradients;
  // Bytes that a rank sends in a step for gradients and weights.
  int64_t bytes_sent() const;

  // distributed.reduction: invariant. partial_sums: what PairwiseSum puts away; arrived_rows: a bucket's rows
  // from all ranks, for each of `travelling`.
  bool invariant = false;
  std::vector<BufferId> partial_sums;
  std::array<BufferId, 2> arrived_rows;

  // A step's micro-batches are numbered. Each rank has a range of them; where the ranks sum first what they
  // have at the same time (shards_gradients and invariant) every world_size-th.
  bool takes_turns() const { return invariant && shards_gradients; }
  int64_t micro_batch(int64_t micro_step) const {
    return takes_turns() ? micro_step * topology.world_size + topology.rank
                         : topology.rank * micro_steps + micro_step;
  }

  // Parameters that this rank writes into checkpoints, and their places in snapshot_parameters (elements).
  struct Written {
    int parameter = 0;
    int64_t offset = 0;
  };
  std::vector<Written> written;

  // On the host: the ring of steps that is filled ahead, one micro-batch for evaluation, and what a
  // checkpoint is written from while the training goes on.
  std::vector<InputIds> input_ring;
  InputIds evaluation_input;
  BufferId snapshot_parameters, snapshot_window, snapshot_control;
  std::vector<BufferId> snapshot_optimizer;  // in the order of Optimizer::state()

 private:
  void choose_reduction(const Experiment& experiment);
  void plan_partial_sums();
  void place_gradients(const Experiment& experiment);
  void plan_exchange();
  void plan_snapshot(const Experiment& experiment);
};

// What oracle.products `auto` stands for depends on the format of the activations: nothing is `auto` any
// more.
OptimizerConfig resolved_optimizer(const Experiment& experiment);

// f64 elements of the guard's window (see StepControl::window).
int64_t guard_window_elements(const GuardConfig& guard);

}  // namespace polar
