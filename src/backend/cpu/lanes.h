// Sums in an order that the source fixes: term i goes to lane i % kLanes, then the lanes are added in pairs.
// The compiler turns the lanes into vector registers, but it cannot choose the order, so neither alignment
// nor compiler flags change the bits.
#pragma once

#include <cstdint>

namespace polar::cpu {

// The sum of term(i) over [0, count), accumulated in T.
template <class T, class Term>
[[gnu::always_inline]] inline T lane_sum(int64_t count, const Term& term) {
  constexpr int64_t kLanes = 32;
  T lanes[kLanes] = {};
  const int64_t rest = count % kLanes;
  for (int64_t i = 0; i < count - rest; i += kLanes) {
#pragma omp simd
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += static_cast<T>(term(i + lane));
  }
  for (int64_t lane = 0; lane < rest; ++lane) lanes[lane] += static_cast<T>(term(count - rest + lane));
  for (int64_t width = kLanes / 2; width > 0; width /= 2) {
#pragma omp simd
    for (int64_t lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

}  // namespace polar::cpu
