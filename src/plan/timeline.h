// A training step as two lanes beside each other: what the device computes, one thing after the other, and
// what the link carries, one collective operation after the other. The order is that of train/trainer.cpp and
// train/shard_exchange.cpp.
//
// A step begins where the optimizer of the step before has ended. The new weights travel bucket by bucket in
// the order of the forward pass, and a stage waits for the buckets that it reads. In the backward pass of the
// last micro-batch a bucket sets out for its owners after the stage that completes its gradients. Only so
// many buckets as there are buffers are on their way: the next one waits until the buffer is free, and so
// does the device. Then come the sums over the ranks that the optimizer needs, and the optimizer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace polar {

// All times in seconds.
struct BucketTimes {
  double reduce_scatter = 0.0, all_gather = 0.0;        // on the link
  double pack_gradients = 0.0, unpack_gradients = 0.0;  // on the device: into the buffer, out of it
  double pack_weights = 0.0, unpack_weights = 0.0;
  size_t first_use = 0, last_gradient = 0;  // stages: Model::first_use, Model::last_gradient
};

struct StepTimes {
  std::vector<double> stages;  // of one micro-batch, forward and backward
  int64_t micro_steps = 1;
  std::vector<BucketTimes> buckets;      // in the order of the backward pass
  bool reduce_every_micro_step = false;  // gradients travel in every micro-batch, not only in the last
  size_t buffers = 2;
  double begin = 0.0;    // on the device, before the first stage: gradients set to zero
  double scalars = 0.0;  // on the link: the sums before the optimizer
  double update = 0.0;   // on the device: norm, optimizer
  bool overlap = true;   // false: nothing is computed while weights or gradients travel
};

struct Timeline {
  double step = 0.0;
  double compute = 0.0;          // of it, the device computes, packs and unpacks,
  double exposed_weights = 0.0;  // waits for weights,
  double exposed_gradients = 0.0;
  double exposed_scalars = 0.0;
  double reduce_scatter = 0.0, all_gather = 0.0;  // on the link, whether the device waits or not

  // step = compute + exposed()
  double exposed() const { return exposed_weights + exposed_gradients + exposed_scalars; }
};

// Error: a bucket's stage does not exist, no stages, no buffers, or micro_steps below 1.
Timeline run_timeline(const StepTimes& times);

}  // namespace polar
