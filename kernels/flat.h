// Launchers of the flat operations (ops/ops.h): one pass over contiguous memory each. T in {float, double,
// bf16}.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace polar::kernels {

// Partial sums of one reduction: `partials` of the launchers below holds this many f64.
constexpr int64_t kMaximumPartialSums = 1024;

// x[i] = the lowest element_bytes (2, 4 or 8) of `bits`, for `count` elements. =
cudaError_t fill(void* x, int element_bytes, uint64_t bits, int64_t count, cudaStream_t stream);
// Rows of row_bytes bytes, rows from_stride and to_stride bytes apart. =
cudaError_t copy_rows(const void* from, int64_t from_stride, void* to, int64_t to_stride, int64_t rows,
                      int64_t row_bytes, cudaStream_t stream);
// to[i] = from[i], rounded to nearest even once. From and To differ. =
template <class From, class To>
cudaError_t cast(const From* from, To* to, int64_t count, cudaStream_t stream);
// x[i] *= factor
template <class T>
cudaError_t scale(T* x, double factor, int64_t count, cudaStream_t stream);
// y[i] = a x[i] + b y[i]
template <class T>
cudaError_t axpby(double a, const T* x, double b, T* y, int64_t count, cudaStream_t stream);
// out[0] = (accumulate ? out[0] : 0) + the sum of x[i], or of x[i] y[i], in f64. `partials`:
// kMaximumPartialSums f64.
template <class T>
cudaError_t sum(const T* x, int64_t count, double* out, bool accumulate, double* partials,
                cudaStream_t stream);
template <class T>
cudaError_t dot(const T* x, const T* y, int64_t count, double* out, bool accumulate, double* partials,
                cudaStream_t stream);

}  // namespace polar::kernels
