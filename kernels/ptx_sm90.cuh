// Wrappers of Hopper's instructions (sm_90a): barriers in shared memory, the TMA engine, warpgroup matrix
// products. One instruction a wrapper. The bodies for the emulator stand in emulator/ptx_sm90_emulation.h.
//
// A kernel uses the warpgroup instructions only inside #ifdef DEVICE_HAS_SM90A. Barriers, destinations of TMA
// and operands of wgmma live in dynamic shared memory.
#pragma once

#include <cuda.h>  // CUtensorMap

#include "ptx.cuh"

#if !defined(__CUDACC__)
#define DEVICE_HAS_SM90A 1
#include "emulator/ptx_sm90_emulation.h"
#elif !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define DEVICE_HAS_SM90A 1
#endif

namespace polar::kernels {

// Which index of an operand of wgmma is contiguous: k, or that of the rows (a) or columns (b) of the result.
enum class Major : int { k = 0, mn = 1 };

// The descriptor of an operand that TMA has written with the 128-byte swizzle (rows of 64 bf16, 1024-byte
// aligned). Major::k: a row of the tile is a row (a) or column (b) of the result; groups of 8 rows follow
// each other. The next 16 of k: 32 bytes on, + 2 in the descriptor. Major::mn: a row of the tile is one k;
// more than 64 rows or columns of the result stand `block_bytes` apart. The next 16 of k: 16 rows on, + 128
// in the descriptor.
__device__ __forceinline__ uint64_t wgmma_descriptor(const void* tile, uint32_t block_bytes = 16) {
  constexpr uint64_t swizzle_128_bytes = uint64_t{1} << 62;
  constexpr uint64_t group_bytes = 1024;
  return swizzle_128_bytes | (group_bytes >> 4) << 32 | uint64_t{block_bytes >> 4} << 16 |
         (shared_address(tile) & 0x3ffff) >> 4;
}

#if defined(__CUDACC__)

// --- barriers in shared memory ---
// A barrier's phase ends when `arrivals` threads have arrived and all bytes that they expect have come. Its
// phases have parity 0, 1, 0, ...
__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}
// After mbarrier_init and before the __syncthreads that lets others use the barriers.
__device__ __forceinline__ void mbarrier_fence_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives, and lets the phase wait for so many bytes of TMA copies more.
__device__ __forceinline__ void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
// Waits for the end of the phase with this parity (returns at once while the phase after it is under way: a
// fresh barrier counts as having ended a phase of parity 1).
__device__ __forceinline__ void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "L_%=:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@!p bra L_%=;\n"
      "}\n" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

// --- the TMA engine ---
// Copies the map's box at (column, row), column counted along the contiguous dimension, to shared memory
// (128-byte aligned; 1024 for wgmma) and reports its bytes to the barrier. What lies outside of the tensor
// becomes zeros.
__device__ __forceinline__ void tma_load_2d(void* to_shared, const CUtensorMap* map, uint64_t* barrier,
                                            int column, int row) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], "
      "[%2];" ::"r"(shared_address(to_shared)),
      "l"(reinterpret_cast<uint64_t>(map)), "r"(shared_address(barrier)), "r"(column), "r"(row)
      : "memory");
}
__device__ __forceinline__ void tma_load_3d(void* to_shared, const CUtensorMap* map, uint64_t* barrier,
                                            int column, int row, int plane) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
      "[%2];" ::"r"(shared_address(to_shared)),
      "l"(reinterpret_cast<uint64_t>(map)), "r"(shared_address(barrier)), "r"(column), "r"(row), "r"(plane)
      : "memory");
}
// Copies `bytes` contiguous bytes of device memory; both addresses and the count are multiples of 16.
__device__ __forceinline__ void tma_load_bytes(void* to_shared, const void* from, uint32_t bytes,
                                               uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          shared_address(to_shared)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier))
      : "memory");
}
__device__ __forceinline__ void tma_prefetch(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<uint64_t>(map)) : "memory");
}
// What threads have written to shared memory is seen by wgmma and TMA only after this.
__device__ __forceinline__ void fence_async_proxy() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

#ifdef DEVICE_HAS_SM90A

// --- registers of a warpgroup ---
template <int count>
__device__ __forceinline__ void set_maximum_registers_up() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ __forceinline__ void set_maximum_registers_down() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}

// --- warpgroup matrix products ---
// Before the first wgmma, and again after the registers of accumulators or of a were touched.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most `pending` groups are under way; only then may their accumulators be touched.
template <int pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// Keeps the compiler from moving what is done with accumulators across this place (no instruction): before
// the first wgmma on them and after the wait for the last.
template <int count>
__device__ __forceinline__ void wgmma_hold(float (&d)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
// The same for registers that are operand a: before the wgmma_fence that lets products read them.
template <int steps>
__device__ __forceinline__ void wgmma_hold(uint32_t (&a)[steps][4]) {
#pragma unroll
  for (int step = 0; step < steps; ++step)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+r"(a[step][i])::"memory");
}

// d (64, n) = a b, or += with `accumulate`, for bf16 a (64, 16) and b (16, n) by the four warps of a
// warpgroup. a is a descriptor or, a warp its 16 rows, registers as in mma_m16n8k16.
// Element i of d in thread t: row 16 * (t / 32) + t % 32 / 4 + 8 * (i / 2 % 2), column 8 * (i / 4) + 2 * (t %
// 4) + i % 2.
#define POLAR_REGISTERS_32                                  \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15," \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}"
#define POLAR_REGISTERS_64                                           \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"          \
  "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31," \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47," \
  "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}"
#define POLAR_ACCUMULATORS_8(d, i)                                                            \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define POLAR_ACCUMULATORS_32(d)                                                       \
  POLAR_ACCUMULATORS_8(d, 0), POLAR_ACCUMULATORS_8(d, 8), POLAR_ACCUMULATORS_8(d, 16), \
      POLAR_ACCUMULATORS_8(d, 24)
#define POLAR_ACCUMULATORS_64(d)                                                      \
  POLAR_ACCUMULATORS_32(d), POLAR_ACCUMULATORS_8(d, 32), POLAR_ACCUMULATORS_8(d, 40), \
      POLAR_ACCUMULATORS_8(d, 48), POLAR_ACCUMULATORS_8(d, 56)

template <Major major_b = Major::k, Major major_a = Major::k>
__device__ __forceinline__ void wgmma_m64n64k16(float (&d)[32], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " POLAR_REGISTERS_32
      ", %32, %33, p, 1, 1, %36, %35;\n"
      "}\n"
      : POLAR_ACCUMULATORS_32(d)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(major_b)),
        "n"(static_cast<int>(major_a)));
}
template <Major major_b = Major::k>
__device__ __forceinline__ void wgmma_m64n64k16(float (&d)[32], const uint32_t (&a)[4], uint64_t b,
                                                bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " POLAR_REGISTERS_32
      ", {%32,%33,%34,%35}, %36, p, 1, 1, %38;\n"
      "}\n"
      : POLAR_ACCUMULATORS_32(d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
        "n"(static_cast<int>(major_b)));
}
template <Major major_b = Major::k, Major major_a = Major::k>
__device__ __forceinline__ void wgmma_m64n128k16(float (&d)[64], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " POLAR_REGISTERS_64
      ", %64, %65, p, 1, 1, %68, %67;\n"
      "}\n"
      : POLAR_ACCUMULATORS_64(d)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(major_b)),
        "n"(static_cast<int>(major_a)));
}
template <Major major_b = Major::k>
__device__ __forceinline__ void wgmma_m64n128k16(float (&d)[64], const uint32_t (&a)[4], uint64_t b,
                                                 bool accumulate) {
  asm volatile(
      "{\n"
      ".reg .pred p;\n"
      "setp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " POLAR_REGISTERS_64
      ", {%64,%65,%66,%67}, %68, p, 1, 1, %70;\n"
      "}\n"
      : POLAR_ACCUMULATORS_64(d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(accumulate)),
        "n"(static_cast<int>(major_b)));
}

#undef POLAR_REGISTERS_32
#undef POLAR_REGISTERS_64
#undef POLAR_ACCUMULATORS_8
#undef POLAR_ACCUMULATORS_32
#undef POLAR_ACCUMULATORS_64

#endif  // DEVICE_HAS_SM90A

#else

using emulator::fence_async_proxy;
using emulator::mbarrier_arrive;
using emulator::mbarrier_arrive_expect;
using emulator::mbarrier_fence_init;
using emulator::mbarrier_init;
using emulator::mbarrier_wait;
using emulator::set_maximum_registers_down;
using emulator::set_maximum_registers_up;
using emulator::tma_load_2d;
using emulator::tma_load_3d;
using emulator::tma_load_bytes;
using emulator::tma_prefetch;
using emulator::wgmma_commit;
using emulator::wgmma_fence;
using emulator::wgmma_wait;

template <int count>
void wgmma_hold(float (&)[count]) {}
template <int steps>
void wgmma_hold(uint32_t (&)[steps][4]) {}
template <Major major_b = Major::k, Major major_a = Major::k>
void wgmma_m64n64k16(float (&d)[32], uint64_t a, uint64_t b, bool accumulate,
                     std::source_location where = std::source_location::current()) {
  emulator::wgmma(d, 64, a, nullptr, b, major_a == Major::mn, major_b == Major::mn, accumulate, where);
}
template <Major major_b = Major::k>
void wgmma_m64n64k16(float (&d)[32], const uint32_t (&a)[4], uint64_t b, bool accumulate,
                     std::source_location where = std::source_location::current()) {
  emulator::wgmma(d, 64, 0, a, b, false, major_b == Major::mn, accumulate, where);
}
template <Major major_b = Major::k, Major major_a = Major::k>
void wgmma_m64n128k16(float (&d)[64], uint64_t a, uint64_t b, bool accumulate,
                      std::source_location where = std::source_location::current()) {
  emulator::wgmma(d, 128, a, nullptr, b, major_a == Major::mn, major_b == Major::mn, accumulate, where);
}
template <Major major_b = Major::k>
void wgmma_m64n128k16(float (&d)[64], const uint32_t (&a)[4], uint64_t b, bool accumulate,
                      std::source_location where = std::source_location::current()) {
  emulator::wgmma(d, 128, 0, a, b, false, major_b == Major::mn, accumulate, where);
}

#endif

}  // namespace polar::kernels
