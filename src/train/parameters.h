// The parameters in full precision (f32) that a rank trains, which are the model's own, or with several ranks
// and bf16 weights this rank's pieces of them only (RunPlan::own_parameters): where they come from and where
// they go.
#pragma once

#include <cstdint>
#include <filesystem>

#include "ops/memory.h"
#include "plan/run_plan.h"
#include "train/shard_exchange.h"

namespace polar {

// What Optimizer::step updates.
Tensor trained_parameters(const RunPlan& plan, const PlannedMemory& device);

// Random values, or those of a directory. Where a rank has its pieces only, the weights of the others are not
// set: they have to be exchanged. Errors: those of load_weights.
void initialize_parameters(Ops& ops, RunPlan& plan, const PlannedMemory& device, uint64_t seed);
void load_parameters(Ops& ops, RunPlan& plan, const PlannedMemory& device,
                     const std::filesystem::path& directory);

// Queues copies of RunPlan::written to the host's snapshot. `exchange`: of several ranks, all of which have
// to call it; else null.
void snapshot_parameters(Ops& ops, const RunPlan& plan, const PlannedMemory& device,
                         const PlannedMemory& host, ShardExchange* exchange);

}  // namespace polar
