// Kernels of hopper_test.cpp, also run as nvcc compiles them.
#pragma once

#include "kernels/ptx_sm90.cuh"
#include "kernels/tensor_map.h"
#include "kernels/vector.cuh"

namespace polar::kernels {

constexpr int kTileBytes = 64 * 64 * 2;

// Warp 1 hands numbers to warp 0 through one slot, both waiting for each other.
__global__ void hand_over_kernel(int* out, int rounds) {
  DEVICE_DYNAMIC_SHARED(memory);
  auto* barriers = reinterpret_cast<uint64_t*>(memory);  // full, empty
  auto* slots = reinterpret_cast<int*>(memory + 64);
  if (threadIdx.x == 0) {
    mbarrier_init(barriers, 32);
    mbarrier_init(barriers + 1, 32);
    mbarrier_fence_init();
  }
  __syncthreads();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int round = 0; round < rounds; ++round) {
    const uint32_t parity = static_cast<uint32_t>(round) & 1;
    if (threadIdx.x >= 32) {
      mbarrier_wait(barriers + 1, parity ^ 1);
      slots[lane] = round * 100 + lane;
      mbarrier_arrive(barriers);
    } else {
      mbarrier_wait(barriers, parity);
      out[round * 32 + lane] = slots[31 - lane];
      mbarrier_arrive(barriers + 1);
    }
  }
}

// A tile of a matrix as it lies in shared memory.
__global__ void tile_kernel(const __grid_constant__ CUtensorMap map, uint16_t* out, int column, int row) {
  DEVICE_DYNAMIC_SHARED(memory);
  auto* barrier = reinterpret_cast<uint64_t*>(memory + kTileBytes);
  if (threadIdx.x == 0) {
    mbarrier_init(barrier, 1);
    mbarrier_fence_init();
    tma_prefetch(&map);
    mbarrier_arrive_expect(barrier, kTileBytes);
    tma_load_2d(memory, &map, barrier, column, row);
  }
  __syncthreads();
  mbarrier_wait(barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < kTileBytes / 2; i += static_cast<int>(blockDim.x))
    out[i] = reinterpret_cast<const uint16_t*>(memory)[i];
}

// Plain bytes through shared memory.
__global__ void bytes_kernel(const unsigned char* from, unsigned char* out, int bytes) {
  DEVICE_DYNAMIC_SHARED(memory);
  auto* barrier = reinterpret_cast<uint64_t*>(memory + kTileBytes);
  if (threadIdx.x == 0) {
    mbarrier_init(barrier, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(barrier, static_cast<uint32_t>(bytes));
    tma_load_bytes(memory + 16, from, static_cast<uint32_t>(bytes), barrier);
  }
  __syncthreads();
  mbarrier_wait(barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < bytes; i += static_cast<int>(blockDim.x))
    out[i] = memory[16 + i];
}

// c (64, columns) f32 = a (64, 64) b, with b given as (columns, 64) or, major mn, as (64, columns). a comes
// from shared memory, where major mn means that its transpose is given, or from registers.
template <int columns, Major major_b, bool a_in_registers, Major major_a = Major::k>
__global__ void __launch_bounds__(128)
    product_kernel(const __grid_constant__ CUtensorMap a_map, const __grid_constant__ CUtensorMap b_map,
                   const bf16* a, float* c) {
#ifdef DEVICE_HAS_SM90A
  DEVICE_DYNAMIC_SHARED(memory);
  unsigned char* b_tile = memory + kTileBytes;
  auto* barrier = reinterpret_cast<uint64_t*>(b_tile + 2 * kTileBytes);
  if (threadIdx.x == 0) {
    mbarrier_init(barrier, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(barrier, kTileBytes + columns * 64 * 2);
    tma_load_2d(memory, &a_map, barrier, 0, 0);
    tma_load_2d(b_tile, &b_map, barrier, 0, 0);
    if (major_b == Major::mn && columns == 128) tma_load_2d(b_tile + kTileBytes, &b_map, barrier, 64, 0);
  }
  __syncthreads();
  mbarrier_wait(barrier, 0);
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float d[columns / 2];
  for (float& value : d) value = 1000.0f;
  uint32_t fragments[4][4];
  for (int step = 0; step < 4; ++step)
    for (int i = 0; i < 4; ++i) {
      const bf16* from = a + (warp * 16 + lane / 4 + i % 2 * 8) * 64 + step * 16 + lane % 4 * 2 + i / 2 * 8;
      fragments[step][i] = pack_bf16(__bfloat162float(from[0]), __bfloat162float(from[1]));
    }
  const uint64_t a_descriptor = wgmma_descriptor(memory);
  const uint64_t b_descriptor = wgmma_descriptor(b_tile, major_b == Major::k ? 16 : kTileBytes);
  wgmma_fence();
#pragma unroll
  for (int step = 0; step < 4; ++step) {
    const uint64_t b_at = b_descriptor + static_cast<uint64_t>(step) * (major_b == Major::k ? 2 : 128);
    const uint64_t a_at = a_descriptor + static_cast<uint64_t>(step) * (major_a == Major::k ? 2 : 128);
    if constexpr (columns == 64 && a_in_registers)
      wgmma_m64n64k16<major_b>(d, fragments[step], b_at, step > 0);
    else if constexpr (columns == 64)
      wgmma_m64n64k16<major_b, major_a>(d, a_at, b_at, step > 0);
    else if constexpr (a_in_registers)
      wgmma_m64n128k16<major_b>(d, fragments[step], b_at, step > 0);
    else
      wgmma_m64n128k16<major_b, major_a>(d, a_at, b_at, step > 0);
  }
  wgmma_commit();
  wgmma_wait<0>();
  for (int i = 0; i < columns / 2; ++i) {
    const int row = warp * 16 + lane / 4 + i / 2 % 2 * 8, col = i / 4 * 8 + lane % 4 * 2 + i % 2;
    c[row * columns + col] = d[i];
  }
#endif
}

// What planted faults share: two steps of a product, with something left out.
enum class Fault { none, wait_for_tile, wait_for_product, fence, never_waits };
template <Fault fault>
__global__ void __launch_bounds__(128) faulty_kernel(const __grid_constant__ CUtensorMap map, float* c) {
#ifdef DEVICE_HAS_SM90A
  DEVICE_DYNAMIC_SHARED(memory);
  auto* barrier = reinterpret_cast<uint64_t*>(memory + kTileBytes);
  if (threadIdx.x == 0) {
    mbarrier_init(barrier, 1);
    mbarrier_fence_init();
    mbarrier_arrive_expect(barrier, kTileBytes);
    tma_load_2d(memory, &map, barrier, 0, 0);
  }
  __syncthreads();
  if constexpr (fault != Fault::wait_for_tile) mbarrier_wait(barrier, 0);
  float d[32] = {};
  if constexpr (fault != Fault::fence) wgmma_fence();
  wgmma_m64n64k16(d, wgmma_descriptor(memory), wgmma_descriptor(memory), false);
  wgmma_commit();
  if constexpr (fault != Fault::wait_for_product && fault != Fault::never_waits) wgmma_wait<0>();
  c[threadIdx.x] = d[0];
  if constexpr (fault != Fault::never_waits) wgmma_wait<0>();
  mbarrier_wait(barrier, 0);
#endif
}
__global__ void overfull_kernel() {
  DEVICE_DYNAMIC_SHARED(memory);
  auto* barrier = reinterpret_cast<uint64_t*>(memory);
  if (threadIdx.x == 0) mbarrier_wait(barrier, 0);
}
__global__ void stuck_kernel() {
  DEVICE_DYNAMIC_SHARED(memory);
  auto* barrier = reinterpret_cast<uint64_t*>(memory);
  if (threadIdx.x == 0) mbarrier_init(barrier, 2);
  __syncthreads();
  if (threadIdx.x == 0) mbarrier_arrive(barrier);
  mbarrier_wait(barrier, 0);
}

}  // namespace polar::kernels
