// The memory of a training run, planned: model, optimizer, input ring, checkpoint snapshot, control. The
// trainer allocates exactly this; `polartrain plan` prints it without allocating.
#pragma once

#include <cstdint>
#include <vector>

#include "config/experiment.h"
#include "model/model.h"
#include "ops/ops.h"
#include "optim/optimizer.h"
#include "tensor/memory_plan.h"

namespace polar {

// Places of the batch arrays of one ring slot: the sequences of one optimizer step on this rank.
struct InputIds {
  BufferId ids, targets, document_starts;
};

// Everything of a run that has a size. The members are in the order of construction; `memory` is complete
// when the constructor returns. Errors: exit code 2 for sizes that do not fit together.
struct RunPlan {
  RunPlan(const Experiment& experiment, const Ops& ops);

  int64_t sequences_per_step;  // of one rank
  int64_t micro_sequences;
  int64_t micro_steps;  // accumulation

  Model model;
  Optimizer optimizer;
  MemoryPlan memory;

  std::vector<InputIds> input_ring;
  InputIds evaluation_input;  // one micro-batch
  BufferId loss_sum, gradient_squares, guard_window, control;
  BufferId snapshot_parameters;  // host copy for background saving; not set when saving in the foreground
  std::vector<BufferId> snapshot_optimizer;  // in the order of Optimizer::state()
};

// The guard's window has this many f64 elements (see StepControl::window).
int64_t guard_window_elements(const GuardConfig& guard);

}  // namespace polar
