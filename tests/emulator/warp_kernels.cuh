// Kernels of warp_test.cpp, also run as nvcc compiles them.
#pragma once

#include "kernels/device.cuh"

namespace polar::kernels {

struct Shuffled {
  int from_three, up, down, exclusive_or, up_in_eight, down_in_eight, broadcast_in_eight;
};
__global__ void shuffle_kernel(Shuffled* out) {
  const int value = static_cast<int>(threadIdx.x) * 10;
  Shuffled mine;
  mine.from_three = __shfl_sync(0xffffffffu, value, 3);
  mine.up = __shfl_up_sync(0xffffffffu, value, 2);
  mine.down = __shfl_down_sync(0xffffffffu, value, 5);
  mine.exclusive_or = __shfl_xor_sync(0xffffffffu, value, 9);
  mine.up_in_eight = __shfl_up_sync(0xffffffffu, value, 3, 8);
  mine.down_in_eight = __shfl_down_sync(0xffffffffu, value, 3, 8);
  mine.broadcast_in_eight = __shfl_sync(0xffffffffu, value, 1, 8);
  out[threadIdx.x] = mine;
}

// The odd lanes and the even lanes, each among themselves, and at their own pace.
__global__ void halves_kernel(float* out) {
  const bool odd = threadIdx.x % 2 == 1;
  const uint32_t mask = odd ? 0xaaaaaaaau : 0x55555555u;
  float value = static_cast<float>(threadIdx.x);
  for (int offset = 16; offset >= 2; offset /= 2) {
    value += __shfl_xor_sync(mask, value, offset);
    if (odd) __syncwarp(mask);
  }
  out[threadIdx.x] = value;
}

struct Voted {
  uint32_t ballot, match;
  int any, all;
  unsigned sum, smallest, bits;
  int signed_largest;
};
__global__ void vote_kernel(Voted* out) {
  const int i = static_cast<int>(threadIdx.x);
  Voted mine;
  mine.ballot = __ballot_sync(0xffffffffu, i % 3 == 0);
  mine.any = __any_sync(0xffffffffu, i == 31);
  mine.all = __all_sync(0xffffffffu, i < 31);
  mine.match = __match_any_sync(0xffffffffu, i / 5);
  mine.sum = __reduce_add_sync(0xffffffffu, threadIdx.x);
  mine.smallest = __reduce_min_sync(0xffffffffu, threadIdx.x + 7);
  mine.signed_largest = __reduce_max_sync(0xffffffffu, i - 100);
  mine.bits = __reduce_xor_sync(0xffffffffu, 1u << (i / 2));
  out[i] = mine;
}

// A block whose second warp has 8 lanes.
__global__ void ragged_kernel(int* out) {
  const int value = __shfl_xor_sync(0xffffffffu, static_cast<int>(threadIdx.x), 1);
  out[threadIdx.x] = value;
}

}  // namespace polar::kernels
