// Wrappers of the PTX instructions that have no C++ spelling and that every supported architecture has (sm_80
// and later): one instruction a wrapper. The bodies for the emulator stand in emulator/ptx_emulation.h under
// the same signatures.
#pragma once

#include "device.cuh"

#if !defined(__CUDACC__)
#include "emulator/ptx_emulation.h"
#endif

namespace polar::kernels {

#if defined(__CUDACC__)

// The 32-bit address of shared memory that PTX operands take.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// d = a b + c for a warp's 16x8 tile, a 16x16 row-major, b 16x8 column-major, both bf16. With g = lane / 4
// and t = 2 * (lane % 4), registers hold (row, column), two neighbours in one 32-bit word, the lower first:
//   a[0] (g, t), (g, t+1)   a[1] (g+8, t..)   a[2] (g, t+8..)   a[3] (g+8, t+8..)
//   b[0] (k = t, t+1; n = g)   b[1] (k = t+8, t+9; n = g)
//   c, d [0] (g, t)   [1] (g, t+1)   [2] (g+8, t)   [3] (g+8, t+1)
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                             const float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%10,%11,%12,%13};"
      : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]),
        "f"(c[3]));
}

// Four 8x8 matrices of 16-bit elements from shared memory: lane l names the row l % 8 of matrix l / 8 (16
// bytes, aligned). out[m] of lane l holds the elements (l / 4, 2 * (l % 4)) and the next one of matrix m.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same of the transposed matrices: out[m] of lane l holds (2 * (l % 4), l / 4) and the element below it.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&out)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(shared_address(row))
               : "memory");
}
// Two matrices; lanes 0 to 15 name their rows (the other lanes pass any valid row).
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&out)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&out)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(out[0]), "=r"(out[1])
               : "r"(shared_address(row))
               : "memory");
}

// Starts to copy 16 bytes from device to shared memory (both 16-byte aligned); without `valid` writes zeros
// and reads nothing.
__device__ __forceinline__ void cp_async16(void* to_shared, const void* from, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to_shared)), "l"(from),
               "r"(valid ? 16 : 0)
               : "memory");
}
// The same for 4 bytes (4-byte aligned).
__device__ __forceinline__ void cp_async4(void* to_shared, const void* from, bool valid = true) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to_shared)), "l"(from),
               "r"(valid ? 4 : 0)
               : "memory");
}
// Closes the group of the copies that this thread has started since the last commit.
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most `pending` of this thread's latest groups are under way. Other threads see the data only
// after a barrier that follows.
template <int pending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// 16 or 8 bytes of device memory in one access; the address is a multiple of that. (A plain access of a uint4
// the compiler sometimes takes apart.) In the program's order among accesses of memory.
__device__ __forceinline__ uint4 load_global16(const void* from) {
  uint4 out;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.x), "=r"(out.y), "=r"(out.z), "=r"(out.w)
               : "l"(from)
               : "memory");
  return out;
}
__device__ __forceinline__ uint2 load_global8(const void* from) {
  uint2 out;
  asm volatile("ld.global.v2.u32 {%0, %1}, [%2];" : "=r"(out.x), "=r"(out.y) : "l"(from) : "memory");
  return out;
}
__device__ __forceinline__ void store_global16(void* to, const uint4& value) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(to), "r"(value.x), "r"(value.y), "r"(value.z),
               "r"(value.w)
               : "memory");
}
__device__ __forceinline__ void store_global8(void* to, const uint2& value) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(to), "r"(value.x), "r"(value.y) : "memory");
}

// 2^x and log2(x), to about 2 units in the last place; subnormals count as 0.
__device__ __forceinline__ float ex2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float lg2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Barrier `id` (1 to 15; 0 is that of __syncthreads) among `threads` threads, whole warps.
__device__ __forceinline__ void named_barrier_sync(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
// Counts this thread in without waiting.
__device__ __forceinline__ void named_barrier_arrive(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

#else

using emulator::cp_async16;
using emulator::cp_async4;
using emulator::cp_async_commit;
using emulator::cp_async_wait;
using emulator::ex2;
using emulator::ldmatrix_x2;
using emulator::ldmatrix_x2_trans;
using emulator::ldmatrix_x4;
using emulator::ldmatrix_x4_trans;
using emulator::lg2;
using emulator::load_global16;
using emulator::load_global8;
using emulator::mma_m16n8k16;
using emulator::named_barrier_arrive;
using emulator::named_barrier_sync;
using emulator::shared_address;
using emulator::store_global16;
using emulator::store_global8;

#endif

}  // namespace polar::kernels
