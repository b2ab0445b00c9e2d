// The gradients of a step's micro-batches, summed in pairs: (0 + 1) + (2 + 3), and so on, a last one without
// a partner as it is. The order is that of a binary tree over all micro-batches of the step, so whoever has
// the sum of a whole subtree, one rank or several, has the same bits: distributed.reduction `invariant`.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/ops.h"

namespace polar {

// Subtrees of growing size wait in `levels` until their partners are complete: level j holds 2^j summands.
class PairwiseSum {
 public:
  // `whole` (f32): where the summands come to stand, one after the other; `levels`: as large each, for n
  // summands as many as n - 1 has binary digits. `ops` must outlive it.
  PairwiseSum(Ops& ops, const Tensor& whole, std::vector<Tensor> levels);

  // Summand `index` (0, 1, ...) of `count` stands in `values`, a part of `whole`. Queues: before the last it
  // is put away, with the last `values` becomes the sum of all. Parts of `whole` may be at different indices.
  void add(const Tensor& values, int64_t index, int64_t count) const;

  // Row 0 of rows (N, count) becomes their sum, in the same order; the others are overwritten.
  static void sum_rows(Ops& ops, const Tensor& rows);

 private:
  Tensor part_of(size_t level, const Tensor& values) const;
  Ops& ops_;
  Tensor whole_;
  std::vector<Tensor> levels_;
};

}  // namespace polar
