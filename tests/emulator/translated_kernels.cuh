// Kernels of translated_test.cpp: what only the code that nvcc generates can show.
#pragma once

#include "kernels/ptx.cuh"

namespace polar::kernels {

// d = a b for a warp's tile. Wrong on the device alone: the assembly has the registers of b exchanged.
__global__ void exchanged_registers_kernel(const uint32_t* a, const uint32_t* b, float* d) {
  uint32_t a_mine[4], b_mine[2];
  float d_mine[4] = {};
  for (int i = 0; i < 4; ++i) a_mine[i] = a[threadIdx.x * 4 + i];
  for (int i = 0; i < 2; ++i) b_mine[i] = b[threadIdx.x * 2 + i];
#if defined(__CUDACC__)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%9,%8}, "
      "{%0,%1,%2,%3};"
      : "+f"(d_mine[0]), "+f"(d_mine[1]), "+f"(d_mine[2]), "+f"(d_mine[3])
      : "r"(a_mine[0]), "r"(a_mine[1]), "r"(a_mine[2]), "r"(a_mine[3]), "r"(b_mine[0]), "r"(b_mine[1]));
#else
  const float zero[4] = {};
  mma_m16n8k16(d_mine, a_mine, b_mine, zero);
#endif
  for (int i = 0; i < 4; ++i) d[threadIdx.x * 4 + i] = d_mine[i];
}

__global__ void read_four_kernel(const float* from, float* out, int offset) {
  const float4 value = *reinterpret_cast<const float4*>(from + offset + threadIdx.x * 4);
  out[threadIdx.x] = value.x + value.y + value.z + value.w;
}

__global__ void __launch_bounds__(64) bounded_kernel(float* out) {
  out[threadIdx.x] = 1.0f;
}

__global__ void unknown_instruction_kernel(unsigned* out) {
#if defined(__CUDACC__)
  unsigned value;
  asm volatile("mov.u32 %0, %%envreg3;" : "=r"(value));
  out[threadIdx.x] = value;
#else
  out[threadIdx.x] = 0;
#endif
}

// What arithmetic, conversions and bits come to, by the functions that nvcc knows of its own.
struct Arithmetic {
  float exponential, logarithm, root, quotient, power, sine, rounded_down, absolute, smaller;
  double double_power, double_quotient, double_root;
  int to_integer, saturated, remainder, ones, leading_zeros, first_one, high;
  unsigned permuted, funnel, reversed;
  long long product;
  bool is_nan, is_less;
};
__global__ void arithmetic_kernel(const float* x, const int* n, Arithmetic* out) {
  const float a = x[0], b = x[1];
  const int i = n[0], j = n[1];
  Arithmetic result;
  result.exponential = expf(a);
  result.logarithm = logf(b);
  result.root = rsqrtf(b);
  result.quotient = a / b;
  result.power = powf(b, a);
  result.sine = sinf(a);
  result.rounded_down = floorf(a);
  result.absolute = fabsf(-b);
  result.smaller = fminf(a, b);
  result.double_power = pow(static_cast<double>(b), 3.5);
  result.double_quotient = static_cast<double>(a) / static_cast<double>(b);
  result.double_root = sqrt(static_cast<double>(b));
  result.to_integer = __float2int_rn(b);
  result.saturated = static_cast<int>(100.0f * __saturatef(b));
  result.remainder = i % j;
  result.ones = __popc(static_cast<unsigned>(i));
  result.leading_zeros = __clz(i);
  result.first_one = __ffs(i);
  result.high = __mulhi(i, j * 1000003);
  result.permuted = __byte_perm(0x11223344u, 0x55667788u, 0x5140u);
  result.funnel = __funnelshift_l(0x80000001u, static_cast<unsigned>(i), 9);
  result.reversed = static_cast<unsigned>(i) >> (j & 31);
  result.product = static_cast<long long>(i) * j;
  result.is_nan = isnan(a * x[2]);
  result.is_less = a < b;
  *out = result;
}

}  // namespace polar::kernels
