// Where gradients stand that are kept for one bucket at a time (distributed.sharding: gradients, "ZeRO-2").
#pragma once

#include <cstdint>
#include <vector>

#include "model/model.h"
#include "optim/shard_plan.h"

namespace polar {

// Offsets by parameter index, elements. The matrices of all buckets share the window [0, window): the
// backward pass fills it for one bucket, which is sent away before the next one's layers begin. Everything
// else has a place of its own behind it: what is cut by element, matrices of no layer, and matrices that are
// joined with such parameters.
struct GradientLayout {
  std::vector<int64_t> offsets;
  int64_t window = 0, count = 0;
};

GradientLayout one_bucket_layout(const Model& model, const ShardPlan& shards);

}  // namespace polar
