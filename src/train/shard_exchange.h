// What travels between the ranks in a step: gradients to the owners of the parameters, and the owners' new
// parameters to everybody, bucket by bucket as the sharding plan says.
#pragma once

#include <array>
#include <memory>

#include "comm/communicator.h"
#include "ops/memory.h"
#include "plan/run_plan.h"

namespace polar {

// For runs of more than one rank. Everything is queued, nothing waits for the device. The arguments must
// outlive it.
class ShardExchange {
 public:
  ShardExchange(Ops& ops, Communicator& comm, const RunPlan& plan, const PlannedMemory& device);

  // Waits for what is under way: the marks go with it.
  ~ShardExchange();
  ShardExchange(const ShardExchange&) = delete;
  ShardExchange& operator=(const ShardExchange&) = delete;

  // own_gradients = the sum over the ranks of this rank's parts of the model's gradients; padding is 0.
  void reduce_gradients();
  // The parameters of every rank become those of their owners.
  void gather_parameters();
  // A scalar (f64, 1) becomes its sum over the ranks.
  void reduce_scalar(const Tensor& scalar, const char* name);

 private:
  // Whole bucket b in its turn's buffer, (ranks, part); waits (on the device) until that is free again.
  Tensor next_buffer(const Bucket& bucket);
  void wait_for_all();

  Ops& ops_;
  Communicator& comm_;
  const RunPlan& plan_;
  Tensor own_gradients_;
  std::array<Tensor, 2> buffers_;
  std::array<std::unique_ptr<Mark>, 2> arrived_;
  std::unique_ptr<Mark> scalar_arrived_;
  size_t turn_ = 0;
};

}  // namespace polar
