// Reductions over a warp and over a block, in an order that depends on the number of threads alone.
#pragma once

#include "device.cuh"

namespace polar::kernels {

constexpr int kWarpSize = 32;
constexpr uint32_t kFullWarp = 0xffffffffu;

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Maximum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// Every lane gets the result over the `lanes` neighbours (a power of two) to which it belongs.
template <int lanes = kWarpSize, class T, class Operation>
__device__ __forceinline__ T warp_reduce(T value, Operation operation) {
#pragma unroll
  for (int offset = lanes / 2; offset > 0; offset /= 2)
    value = operation(value, __shfl_xor_sync(kFullWarp, value, offset));
  return value;
}
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  return warp_reduce(value, Sum{});
}
template <class T>
__device__ __forceinline__ T warp_max(T value) {
  return warp_reduce(value, Maximum{});
}

// Every thread of a one-dimensional block of `threads` (a multiple of 32) gets the result over the block.
// `scratch` is shared memory for threads / 32 values; it may be used again at once.
template <int threads, class T, class Operation>
__device__ __forceinline__ T block_reduce(T value, T* scratch, Operation operation) {
  static_assert(threads % kWarpSize == 0 && threads <= 1024);
  constexpr int warps = threads / kWarpSize;
  value = warp_reduce(value, operation);
  if constexpr (warps > 1) {
    const int warp = static_cast<int>(threadIdx.x) / kWarpSize,
              lane = static_cast<int>(threadIdx.x) % kWarpSize;
    __syncthreads();  // the scratch's earlier contents may still be read
    if (lane == 0) scratch[warp] = value;
    __syncthreads();
    value = scratch[0];
#pragma unroll
    for (int i = 1; i < warps; ++i) value = operation(value, scratch[i]);
  }
  return value;
}
template <int threads, class T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
  return block_reduce<threads>(value, scratch, Sum{});
}
template <int threads, class T>
__device__ __forceinline__ T block_max(T value, T* scratch) {
  return block_reduce<threads>(value, scratch, Maximum{});
}

}  // namespace polar::kernels
