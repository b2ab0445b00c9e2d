// Kernels of matrix_test.cpp, also run as nvcc compiles them.
#pragma once

#include "kernels/device.cuh"
#include "kernels/ptx.cuh"

namespace polar::kernels {

__global__ void mma_kernel(const uint32_t* a, const uint32_t* b, const float* c, float* d) {
  uint32_t a_mine[4], b_mine[2];
  float c_mine[4], d_mine[4];
  for (int i = 0; i < 4; ++i) a_mine[i] = a[threadIdx.x * 4 + i];
  for (int i = 0; i < 2; ++i) b_mine[i] = b[threadIdx.x * 2 + i];
  for (int i = 0; i < 4; ++i) c_mine[i] = c[threadIdx.x * 4 + i];
  mma_m16n8k16(d_mine, a_mine, b_mine, c_mine);
  for (int i = 0; i < 4; ++i) d[threadIdx.x * 4 + i] = d_mine[i];
}

// Element (row, column) of matrix m has the value 256 m + 16 row + column.
template <bool transposed, int matrices>
__global__ void ldmatrix_kernel(uint32_t* out) {
  DEVICE_SHARED(uint16_t, memory, [4][8][8]);
  for (int i = static_cast<int>(threadIdx.x); i < 256; i += 32)
    memory[i / 64][i / 8 % 8][i % 8] = static_cast<uint16_t>(i / 64 * 256 + i / 8 % 8 * 16 + i % 8);
  __syncwarp();
  const uint16_t* row = memory[threadIdx.x / 8 % matrices][threadIdx.x % 8];
  uint32_t mine[matrices];
  if constexpr (matrices == 4) {
    if constexpr (transposed)
      ldmatrix_x4_trans(mine, row);
    else
      ldmatrix_x4(mine, row);
  } else {
    if constexpr (transposed)
      ldmatrix_x2_trans(mine, row);
    else
      ldmatrix_x2(mine, row);
  }
  for (int m = 0; m < matrices; ++m) out[threadIdx.x * matrices + m] = mine[m];
}

// Two groups of copies; waits for the first only and reports both as they are then, and after all.
__global__ void async_copy_kernel(const float* from, float* out) {
  DEVICE_SHARED(float, memory, [3][32 * 4]);
  const int first = static_cast<int>(threadIdx.x) * 4;
  cp_async16(&memory[0][first], from + first);
  cp_async_commit();
  cp_async16(&memory[1][first], from + 128 + first);
  cp_async4(&memory[2][threadIdx.x], from + threadIdx.x, threadIdx.x % 2 == 0);
  cp_async_commit();
  cp_async_wait<1>();
  out[threadIdx.x] = memory[0][first + 3];
  out[32 + threadIdx.x] = memory[1][first + 3];
  cp_async_wait<0>();
  out[64 + threadIdx.x] = memory[1][first + 3];
  out[96 + threadIdx.x] = memory[2][threadIdx.x];
}

__global__ void exponentials_kernel(const float* x, float* out) {
  out[2 * threadIdx.x] = ex2(x[threadIdx.x]);
  out[2 * threadIdx.x + 1] = lg2(x[threadIdx.x]);
}

}  // namespace polar::kernels
