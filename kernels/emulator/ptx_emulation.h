// The bodies of kernels/ptx.cuh for the emulator: same signatures, described there.
#pragma once

#include <cmath>

#include "async_copy.h"
#include "collectives.h"
#include "matrix.h"
#include "shared_memory.h"

namespace polar::emulator {

inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const float (&c)[4],
                         std::source_location where = std::source_location::current()) {
  multiply_m16n8k16(d, a, b, c, where);
}
inline void ldmatrix_x4(uint32_t (&out)[4], const void* row,
                        std::source_location where = std::source_location::current()) {
  load_matrices(out, row, 4, false, where);
}
inline void ldmatrix_x4_trans(uint32_t (&out)[4], const void* row,
                              std::source_location where = std::source_location::current()) {
  load_matrices(out, row, 4, true, where);
}
inline void ldmatrix_x2(uint32_t (&out)[2], const void* row,
                        std::source_location where = std::source_location::current()) {
  load_matrices(out, row, 2, false, where);
}
inline void ldmatrix_x2_trans(uint32_t (&out)[2], const void* row,
                              std::source_location where = std::source_location::current()) {
  load_matrices(out, row, 2, true, where);
}

inline void cp_async16(void* to_shared, const void* from, bool valid = true,
                       std::source_location where = std::source_location::current()) {
  start_async_copy(to_shared, from, 16, valid ? 16 : 0, where);
}
inline void cp_async4(void* to_shared, const void* from, bool valid = true,
                      std::source_location where = std::source_location::current()) {
  start_async_copy(to_shared, from, 4, valid ? 4 : 0, where);
}
inline void cp_async_commit() {
  commit_async_copies();
}
template <int pending>
void cp_async_wait() {
  wait_async_copies(pending);
}

inline uint4 load_global16(const void* from) {
  return *static_cast<const uint4*>(from);
}
inline uint2 load_global8(const void* from) {
  return *static_cast<const uint2*>(from);
}
inline void store_global16(void* to, const uint4& value) {
  *static_cast<uint4*>(to) = value;
}
inline void store_global8(void* to, const uint2& value) {
  *static_cast<uint2*>(to) = value;
}

inline float ex2(float x) {
  return std::exp2(x);
}
inline float lg2(float x) {
  return std::log2(x);
}

inline void named_barrier_sync(int id, int threads,
                               std::source_location where = std::source_location::current()) {
  block_barrier(id, threads, 0, "bar.sync", where);
}
inline void named_barrier_arrive(int id, int threads,
                                 std::source_location where = std::source_location::current()) {
  block_barrier_arrive(id, threads, "bar.arrive", where);
}

}  // namespace polar::emulator
