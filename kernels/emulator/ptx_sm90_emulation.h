// The bodies of kernels/ptx_sm90.cuh for the emulator: same signatures, described there.
#pragma once

#include <cuda.h>

#include "mbarrier.h"
#include "tensor_copy.h"
#include "wgmma.h"

namespace polar::emulator {

inline void mbarrier_init(uint64_t* barrier, int arrivals,
                          std::source_location where = std::source_location::current()) {
  mbarrier_initialize(barrier, arrivals, where);
}
inline void mbarrier_fence_init() {}
inline void mbarrier_arrive(uint64_t* barrier, std::source_location where = std::source_location::current()) {
  mbarrier_arrive_one(barrier, 0, where);
}
inline void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes,
                                   std::source_location where = std::source_location::current()) {
  mbarrier_arrive_one(barrier, bytes, where);
}
inline void mbarrier_wait(uint64_t* barrier, uint32_t parity,
                          std::source_location where = std::source_location::current()) {
  mbarrier_wait_phase(barrier, parity, where);
}

inline void tma_load_2d(void* to_shared, const CUtensorMap* map, uint64_t* barrier, int column, int row,
                        std::source_location where = std::source_location::current()) {
  start_tensor_copy(to_shared, map, barrier, 2, {column, row}, where);
}
inline void tma_load_3d(void* to_shared, const CUtensorMap* map, uint64_t* barrier, int column, int row,
                        int plane, std::source_location where = std::source_location::current()) {
  start_tensor_copy(to_shared, map, barrier, 3, {column, row, plane}, where);
}
inline void tma_load_bytes(void* to_shared, const void* from, uint32_t bytes, uint64_t* barrier,
                           std::source_location where = std::source_location::current()) {
  start_bulk_copy(to_shared, from, bytes, barrier, where);
}
inline void tma_prefetch(const CUtensorMap*) {}
inline void fence_async_proxy() {}

template <int count>
void set_maximum_registers_up() {
  static_assert(count % 8 == 0 && count >= 24 && count <= 256);
}
template <int count>
void set_maximum_registers_down() {
  static_assert(count % 8 == 0 && count >= 24 && count <= 256);
}

template <int pending>
void wgmma_wait() {
  wgmma_wait_groups(pending);
}

}  // namespace polar::emulator
