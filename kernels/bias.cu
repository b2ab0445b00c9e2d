// Bias of rows. Forward in place: 2 s bytes an element of size s (y read and written). Backward: s bytes an
// element (dy read), F32 sums over rows, +=.
#include "bias.h"

#include "column_sums.cuh"

namespace polar::kernels {

constexpr int kBiasThreads = 128;

template <class T>
__global__ void __launch_bounds__(kBiasThreads)
    add_bias_kernel(T* y, int64_t stride, const T* bias, int64_t cols, bool aligned) {
  const int64_t col = (static_cast<int64_t>(blockIdx.y) * kBiasThreads + threadIdx.x) * kPiece<T>;
  if (col >= cols) return;
  T* to = y + blockIdx.x * stride + col;
  for_piece(aligned && cols - col >= kPiece<T>, [&](auto whole) {
    float value[kPiece<T>], add[kPiece<T>];
    load_piece<whole.value>(static_cast<const T*>(to), cols - col, value);
    load_piece<whole.value>(bias + col, cols - col, add);
#pragma unroll
    for (int i = 0; i < kPiece<T>; ++i) value[i] += add[i];
    store_piece<whole.value>(to, cols - col, value);
  });
}

template <class T>
cudaError_t add_bias(T* y, int64_t stride, const T* bias, int64_t rows, int64_t cols, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(rows),
                  static_cast<unsigned>(divide_up(cols, int64_t{kBiasThreads} * kPiece<T>)));
  return device_launch(LaunchConfig(grid, kBiasThreads, 0, stream), &add_bias_kernel<T>, y, stride, bias,
                       cols, pieces_aligned(y, stride) && pieces_aligned(bias));
}

template <class T>
cudaError_t bias_backward(const T* dy, int64_t stride, float* dbias, int64_t rows, int64_t cols,
                          float* partials, size_t partial_bytes, cudaStream_t stream) {
  if (rows == 0 || cols == 0) return cudaSuccess;
  const int64_t room = static_cast<int64_t>(partial_bytes / sizeof(float)) / cols;
  if (room == 0) return cudaErrorInvalidValue;
  const int64_t wanted = row_blocks(rows), blocks = wanted < room ? wanted : room;
  const cudaError_t status =
      sum_columns<false>(MatrixTerm<T>{dy, stride}, rows, cols, blocks, partials, cols, stream);
  if (status != cudaSuccess) return status;
  return add_partials(partials, blocks, cols, dbias, stream);
}

#define INSTANTIATE(T)                                                                               \
  template cudaError_t add_bias<T>(T*, int64_t, const T*, int64_t, int64_t, cudaStream_t);           \
  template cudaError_t bias_backward<T>(const T*, int64_t, float*, int64_t, int64_t, float*, size_t, \
                                        cudaStream_t);
INSTANTIATE(float)
INSTANTIATE(bf16)
#undef INSTANTIATE

}  // namespace polar::kernels
