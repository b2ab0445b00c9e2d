// Kernels of block_test.cpp, also run as nvcc compiles them.
#pragma once

#include "kernels/device.cuh"
#include "kernels/ptx.cuh"

namespace polar::kernels {

__global__ void indices_kernel(uint32_t* out) {
  const uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const uint32_t thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

// Every thread passes a value on to the next one, round by round.
__global__ void ring_kernel(int* out, int rounds) {
  DEVICE_SHARED(int, slots, [96]);
  const int i = static_cast<int>(threadIdx.x);
  int value = i;
  for (int round = 0; round < rounds; ++round) {
    slots[i] = value;
    __syncthreads();
    value = slots[(i + 1) % 96];
    __syncthreads();
  }
  out[i] = value;
}

__global__ void counting_kernel(int* out) {
  const int multiples = __syncthreads_count(threadIdx.x % 5 == 0);
  const int any = __syncthreads_or(threadIdx.x == 63);
  const int all = __syncthreads_and(threadIdx.x < 63);
  out[threadIdx.x] = multiples * 100 + any * 10 + all;
}

// Warps 0 and 1 meet at one barrier, 2 and 3 at another; warp 3 only counts itself in.
__global__ void named_barriers_kernel(int* out) {
  DEVICE_SHARED(int, slots, [128]);
  const int i = static_cast<int>(threadIdx.x), warp = i / 32;
  if (warp == 0 || warp == 3) slots[i] = i + 1;
  if (warp < 2) named_barrier_sync(1, 64);
  if (warp == 2) named_barrier_sync(2, 64);
  if (warp == 3) named_barrier_arrive(2, 64);
  if (warp == 1) out[i - 32] = slots[i - 32];
  if (warp == 2) out[i - 32] = slots[i + 32];
}

__global__ void shared_kernel(uint64_t* out, int bytes) {
  DEVICE_SHARED(float, matrix, [3][5]);
  DEVICE_SHARED(double, scalar);
  DEVICE_DYNAMIC_SHARED(dynamic);
  for (int i = static_cast<int>(threadIdx.x); i < bytes; i += static_cast<int>(blockDim.x)) dynamic[i] = 1;
  if (threadIdx.x == 0) {
    matrix[2][4] = 1.0f;
    scalar = 2.0;
    out[0] = reinterpret_cast<uintptr_t>(dynamic) % 1024;
    out[1] = reinterpret_cast<uintptr_t>(&matrix[0][0]) % 16;
    out[2] = sizeof(matrix) + static_cast<uint64_t>(scalar) - 2;
    out[3] = shared_address(dynamic + 40) - shared_address(dynamic);
    out[4] = shared_address(&matrix[1][0]) - shared_address(&matrix[0][0]);
  }
}

// The last block to finish adds up what all have left: allowed, with fences and an integer counter.
__global__ void last_block_kernel(float* parts, unsigned* finished, float* total) {
  DEVICE_SHARED(bool, is_last);
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = static_cast<float>(blockIdx.x);
    __threadfence();
    is_last = atomicAdd(finished, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!is_last || threadIdx.x != 0) return;
  __threadfence();
  float sum = 0.0f;
  for (unsigned i = 0; i < gridDim.x; ++i) sum += parts[i];
  *total = sum;
}

struct Parameters {
  double factor;
  int offset;
};
__global__ void parameters_kernel(float* out, Parameters parameters, int64_t n) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < n) out[i] = static_cast<float>(parameters.factor * static_cast<double>(i) + parameters.offset);
}

}  // namespace polar::kernels
