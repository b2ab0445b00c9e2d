// What travels between the ranks in a step, bucket by bucket as the sharding plan says, while the model is
// computed: gradients to the owners of the parameters as soon as the backward pass has completed them, and
// the owners' new weights to everybody, each awaited only where the next forward pass reads it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "ops/memory.h"
#include "plan/run_plan.h"
#include "train/pairwise_sum.h"

namespace polar {

// For runs of more than one rank. Everything is queued, nothing waits for the device. Stages are those of
// Model::run_stages. All ranks make the same calls in the same order. The arguments must outlive it.
class ShardExchange {
 public:
  // `pairs` (plan.invariant, else nullptr): the sum over this rank's micro-batches.
  ShardExchange(Ops& ops, Communicator& comm, const RunPlan& plan, const PlannedMemory& device,
                const PairwiseSum* pairs);

  // Waits for what is under way: the marks go with it.
  ~ShardExchange();
  ShardExchange(const ShardExchange&) = delete;
  ShardExchange& operator=(const ShardExchange&) = delete;

  // Between which stages it has something to do: 0, ..., stage_count(), ascending.
  std::vector<int64_t> cuts() const;

  // After the update: the new weights set out. Until receive_weights() nobody may read those of others.
  void send_weights();
  // Before the stages up to `end` (exclusive) are queued: the weights that they read are those of their
  // owners.
  void receive_weights(int64_t end);
  void receive_weights() { receive_weights(plan_.model.stage_count()); }

  // Before a step: own gradients = 0, where every micro-batch adds to them.
  void clear_gradients();
  // After the stages up to `end` (exclusive) of micro-step `micro` were queued: gradients that are complete
  // by then set out. All weights must have been received. With plan.shards_gradients in every micro-step,
  // else in the last.
  void send_gradients(int64_t end, int64_t micro);
  // Own gradients = the sum over the ranks of this rank's parts of the model's gradients; padding is 0.
  void receive_gradients();

  // The element-wise parameters in full precision, whole, of which each rank has parts only
  // (plan.own_parameters): each piece is shown to take(piece, values), which has to queue its use of them.
  void gather_parameters(const std::function<void(const Bucket::Piece&, const Tensor&)>& take);

  // Each of a few scalars (f64) becomes its sum over the ranks.
  void reduce_scalars(const Tensor& scalars, const char* name);

 private:
  // A bucket on one of its two ways: always in the same buffer, packed and unpacked by the same work.
  struct Journey {
    size_t bucket = 0;
    int64_t stage = 0;  // the first that reads its weights; the last that adds to its gradients
    size_t turn = 0;    // buffer
    Tensor parts;       // (ranks, part)
    Tensor arrived;     // gradients with plan.invariant: (ranks, part), every rank's own
    std::unique_ptr<Repeated> pack, unpack;
  };
  std::vector<Journey> journeys(int64_t (Model::*stage_of)(int) const, bool latest, DType dtype) const;
  void prepare_gradients(const PlannedMemory& device);
  void prepare_weights();
  void pack_gradients(const Journey& journey) const;
  void sum_in_pairs(const Tensor& gradient) const;
  void take_own_part(const Journey& journey) const;
  void free_buffer(size_t turn);
  void send_next_weights();
  Tensor own_part(const Journey& journey) const;
  Tensor row_of_this_rank(const Journey& journey) const;
  const Bucket& bucket_of(const Journey& journey) const { return plan_.shards->buckets()[journey.bucket]; }
  Tensor buffer(size_t turn, DType dtype, const Bucket& bucket) const;

  // What is to be unpacked when it has arrived, and of which micro-step.
  struct UnderWay {
    const Journey* journey = nullptr;
    int64_t micro = 0;
  };

  Ops& ops_;
  Communicator& comm_;
  const RunPlan& plan_;
  const PairwiseSum* pairs_;
  Tensor own_gradients_, own_parameters_, arrived_gradients_;
  const bool in_place_;            // gradients arrive in their buffer, else where they belong
  std::array<Tensor, 2> buffers_;  // taken in turn
  std::array<std::unique_ptr<Mark>, 2> arrived_;
  std::array<UnderWay, 2> under_way_{};
  std::unique_ptr<Mark> scalar_arrived_;
  std::vector<Journey> gradients_, weights_;  // in the order of travelling
  size_t gradients_sent_ = 0;                 // in this micro-batch
  size_t weights_sent_;                       // since the last update
};

}  // namespace polar
