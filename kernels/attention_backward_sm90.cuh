// What both kinds of blocks of attention_backward_sm90.cu share.
#pragma once

#include "attention_backward.cuh"
#include "attention_sm90.cuh"

namespace polar::kernels {

// A block: one warpgroup that copies, two that compute 64 rows each.
constexpr int kBackwardConsumers = 2, kBackwardThreads = (1 + kBackwardConsumers) * kWarpgroup;
constexpr int kOwnedRows = 64 * kBackwardConsumers;
// The registers of 384 threads (168 each) are given to those who compute.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;

// Boxes of 64 rows.
struct HopperBackwardMaps {
  CUtensorMap q, doutput, k, v;
};

// How many blocks it takes to own the rows of a head.
__host__ __device__ inline int owned_tiles(const AttentionSizes& sizes) {
  return (sizes.query_time + kOwnedRows - 1) / kOwnedRows;
}

#ifdef DEVICE_HAS_SM90A

// The barriers of a block: of what it owns, and of each buffer of its ring.
template <class Tiling>
struct BackwardBarriers {
  uint64_t *own, *full, *empty;

  __device__ __forceinline__ explicit BackwardBarriers(void* memory)
      : own(static_cast<uint64_t*>(memory)), full(own + 1), empty(full + Tiling::kStages) {
    static_assert((1 + 2 * Tiling::kStages) * sizeof(uint64_t) <= Tiling::kBarrierBytes);
  }
  __device__ __forceinline__ void initialise() const {
    mbarrier_init(own, 1);
    for (int i = 0; i < Tiling::kStages; ++i) {
      mbarrier_init(full + i, 1);
      mbarrier_init(empty + i, kBackwardConsumers * kWarpgroup / kWarpSize);
    }
    mbarrier_fence_init();
  }
  // This warp has read tile i.
  __device__ __forceinline__ void release(int i) const {
    __syncwarp();
    if (lane_index() == 0) mbarrier_arrive(empty + RingPlace<Tiling::kStages>(i).stage);
  }
  __device__ __forceinline__ void wait_for_tile(int i) const {
    const RingPlace<Tiling::kStages> place(i);
    mbarrier_wait(full + place.stage, place.parity);
  }
  __device__ __forceinline__ void wait_for_buffer(int i) const {
    const RingPlace<Tiling::kStages> place(i);
    mbarrier_wait(empty + place.stage, place.parity ^ 1);
  }
};

// Lets the TMA engine copy a tile: its panels, kRows rows each.
template <int kRows, int kPanels>
__device__ __forceinline__ void copy_tile(bf16* to, const CUtensorMap& map, uint64_t* full, int column,
                                          int row, int batch) {
  for (int p = 0; p < kPanels; ++p)
    for (int r = 0; r < kRows; r += 64)
      tma_load_3d(to + (p * kRows + r) * 64, &map, full, column + 64 * p, row + r, batch);
}

#endif  // DEVICE_HAS_SM90A

}  // namespace polar::kernels
