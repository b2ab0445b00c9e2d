// What of a run a checkpoint holds, taken from device memory and put back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <vector>

#include "checkpoint/store.h"
#include "config/experiment.h"
#include "ops/memory.h"
#include "plan/run_plan.h"
#include "train/shard_exchange.h"

namespace polar {

// The counters of a run; everything else of its state is in tensors.
struct RunProgress {
  int64_t step = 0;    // optimizer steps done (skipped ones included); also the data position
  int64_t tokens = 0;  // trained on, over all ranks
  double best_val_loss = std::numeric_limits<double>::infinity();
  int64_t best_step = -1;  // the step with that loss, -1: none
};

// Small files that stand beside the weights in every checkpoint: config.json, config.yaml, the tokenizer's.
std::vector<SmallFile> checkpoint_files(const Experiment& experiment);

// Copies the state of the run into the plan's snapshot buffers and describes it as a checkpoint. The content
// views those buffers: they must stay as they are until it has been written. `exchange`: of several ranks,
// all of which have to call it; else null.
CheckpointContent take_snapshot(Ops& ops, const RunPlan& plan, const PlannedMemory& device,
                                const PlannedMemory& host, ShardExchange* exchange,
                                const Experiment& experiment, const RunProgress& progress);

// Puts a checkpoint back (of several ranks, to each what it owns: see load_parameters): weights, optimizer
// state, guard window, counters. Errors name the file and the tensor that is missing or does not fit.
RunProgress restore(Ops& ops, RunPlan& plan, const PlannedMemory& device,
                    const std::filesystem::path& checkpoint);

}  // namespace polar
