// Launchers of the bias of a matrix's rows. T in {float, bf16}; matrices are row-major, strides in elements.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace polar::kernels {

// y (rows, cols) += bias (cols)
template <class T>
cudaError_t add_bias(T* y, int64_t stride, const T* bias, int64_t rows, int64_t cols, cudaStream_t stream);
// dbias (cols) += the column sums of dy (rows, cols). `partials`: `partial_bytes` of memory, at least 4 cols;
// with less than 2048 cols bytes large matrices take longer.
template <class T>
cudaError_t bias_backward(const T* dy, int64_t stride, float* dbias, int64_t rows, int64_t cols,
                          float* partials, size_t partial_bytes, cudaStream_t stream);

}  // namespace polar::kernels
