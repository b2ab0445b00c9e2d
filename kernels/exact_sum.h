// Launchers of sums in fixed point (Ops::exact_squares and exact_value in ops/ops.h), in which the order of
// the terms changes nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace polar::kernels {

// kExactDigits, kExactAtom and -kExactExponent of ops/ops.h.
constexpr int kFixedPointDigits = 22, kFixedPointAtom = 64, kFixedPointPlaces = 320;

// digits (kFixedPointDigits f64) = (accumulate ? digits : 0) + the sum of the squares of x (count).
// `scratch`: kFixedPointDigits words of 8 bytes.
cudaError_t exact_squares(const float* x, int64_t count, double* digits, bool accumulate, void* scratch,
                          cudaStream_t stream);
// out[0] = the value of digits.
cudaError_t exact_value(const double* digits, double* out, cudaStream_t stream);

}  // namespace polar::kernels
