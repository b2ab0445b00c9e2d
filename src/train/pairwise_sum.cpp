#include "train/pairwise_sum.h"

#include <utility>

#include "base/error.h"

namespace polar {

PairwiseSum::PairwiseSum(Ops& ops, const Tensor& whole, std::vector<Tensor> levels)
    : ops_(ops), whole_(whole), levels_(std::move(levels)) {}

Tensor PairwiseSum::part_of(size_t level, const Tensor& values) const {
  if (level >= levels_.size()) fail("PairwiseSum: too many summands for {} levels", levels_.size());
  return levels_[level].slice(values.as<float>() - whole_.as<float>(), values.shape);
}

void PairwiseSum::add(const Tensor& values, int64_t index, int64_t count) const {
  // The bits of `index` say which levels wait. A partner of equal size comes before it.
  size_t level = 0;
  auto waiting = static_cast<uint64_t>(index);
  for (; waiting % 2 == 1; waiting /= 2) ops_.axpby(1.0, part_of(level++, values), 1.0, values);
  if (index + 1 < count) return ops_.copy(values, part_of(level, values));
  for (; waiting > 0; waiting /= 2, ++level)
    if (waiting % 2 == 1) ops_.axpby(1.0, part_of(level, values), 1.0, values);
}

void PairwiseSum::sum_rows(Ops& ops, const Tensor& rows) {
  const int64_t n = rows.shape[0], count = rows.shape[1];
  const auto row = [&](int64_t i) { return rows.slice(i * count, {count}); };
  for (int64_t stride = 1; stride < n; stride *= 2)
    for (int64_t i = 0; i + stride < n; i += 2 * stride) ops.axpby(1.0, row(i + stride), 1.0, row(i));
}

}  // namespace polar
