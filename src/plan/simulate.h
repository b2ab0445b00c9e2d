// A training run on hardware that is not here: the time of a step, what of it communication costs, and
// whether it fits, for a number of ranks. The sharding plan, the buckets and the memory are those that a run
// would have; their times come from plan/step_cost.h, and plan/timeline.h puts them beside each other.
//
// There are no measurements on GPUs that it could be held against yet; tools/bench/simulate_check.py holds it
// against runs on the CPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "config/experiment.h"
#include "config/hardware.h"
#include "ops/ops.h"
#include "plan/step_cost.h"
#include "plan/timeline.h"

namespace polar {

struct Simulation {
  int ranks = 1;
  int64_t nodes = 1;
  int64_t micro_sequences = 0, micro_steps = 0;
  Recompute recompute = Recompute::none;
  bool shards_gradients = false;      // distributed.sharding: gradients
  DType gradient_dtype = DType::f32;  // distributed.gradient_dtype

  // Memory of the rank that needs the most.
  size_t memory_bytes = 0;    // the run's own
  size_t capacity_bytes = 0;  // what the device has for it
  bool fits() const { return memory_bytes <= capacity_bytes; }

  // Seconds of a step on the rank whose optimizer takes longest.
  Cost forward, backward;  // of all micro-batches; loss and head with the backward pass
  UpdateCost update;
  double other = 0.0;  // gradients set to zero, packing and unpacking of what travels
  Timeline timeline;
  double step_without_overlap = 0.0;

  double padding = 1.0, imbalance = 1.0;  // of the sharding plan
  int64_t elements_sent = 0;              // by a rank in a step (ShardPlan::elements_sent)
  int64_t bytes_sent = 0;                 // RunPlan::bytes_sent
  double tokens_per_s = 0.0;
  double mfu = 0.0;  // the model's FLOPs (flops_per_token) over those of the data sheet
};

// Simulates a number of ranks in any settings of batch.micro_sequences and train.recompute, which share the
// sharding plan and most of the memory plan. `ops`: of the hardware's backend, for its plan only. Errors
// (exit code 2): the sequences of a step cannot be shared equally; several nodes, and no network; an oracle
// of unknown cost.
class RankSimulator {
 public:
  RankSimulator(const Experiment& experiment, const Ops& ops, const Hardware& hardware, int ranks);
  ~RankSimulator();
  RankSimulator(const RankSimulator&) = delete;
  RankSimulator& operator=(const RankSimulator&) = delete;

  int64_t sequences() const;  // of a rank in a step
  // The experiment's own micro_sequences, or the largest number below it that divides sequences().
  int64_t configured_micro_sequences() const;

  // `micro_sequences` divides sequences().
  Simulation run(int64_t micro_sequences, Recompute recompute) const;
  // The experiment's own settings.
  Simulation run() const;
  // The memory that run() would report, without the rest.
  size_t memory_bytes(int64_t micro_sequences, Recompute recompute) const;

 private:
  struct State;
  void add_times(Simulation& out) const;
  std::unique_ptr<State> state_;
};

}  // namespace polar
