// Launchers of the embedding. T in {float, bf16}; matrices are row-major, strides in elements.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace polar::kernels {

// out (rows, cols) = rows `ids` of table (vocabulary, cols). An id outside [0, vocabulary) gives a row of
// NaN.
template <class T>
cudaError_t embedding_forward(const int32_t* ids, const T* table, T* out, int64_t out_stride, int64_t rows,
                              int64_t cols, int64_t vocabulary, cudaStream_t stream);

// dtable (vocabulary, cols) += ; the rows of dout with equal id are added to dtable's in the order of their
// position. Rows whose id is outside [0, vocabulary) are left out. `keys`: embedding_backward_keys(rows)
// values.
template <class T>
cudaError_t embedding_backward(const int32_t* ids, const T* dout, int64_t dout_stride, float* dtable,
                               int64_t rows, int64_t cols, int64_t vocabulary, uint64_t* keys,
                               cudaStream_t stream);
int64_t embedding_backward_keys(int64_t rows);

}  // namespace polar::kernels
