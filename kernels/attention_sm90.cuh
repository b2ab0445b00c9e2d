// What attention's kernels for Hopper share: warpgroups of 64 rows, tiles in rings of buffers, panels of 64
// columns in shared memory.
#pragma once

#include "attention.h"
#include "attention_mask.cuh"
#include "hopper.h"
#include "ptx_sm90.cuh"
#include "tensor_map.h"

namespace polar::kernels {

constexpr int kWarpgroup = 128;

// Describes the rows of one operand: columns of all heads, tiles of tile_rows rows of a sequence.
inline cudaError_t attention_tensor_map(CUtensorMap* map, const AttentionRows<const bf16>& rows, int batch,
                                        int time, int columns, int tile_rows) {
  return make_tensor_map(map, rows.data, batch, time, columns, rows.stride, time * rows.stride, tile_rows);
}

#ifdef DEVICE_HAS_SM90A

// The thread's warpgroup, by a shuffle, from which the compiler sees that it is the same in the whole warp.
__device__ __forceinline__ int warpgroup_index() {
  return __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
}

// Which buffer tile i of the walk uses, and the parity of its phase.
template <int kStages>
struct RingPlace {
  uint32_t stage, parity;
  __device__ __forceinline__ explicit RingPlace(int i)
      : stage(static_cast<uint32_t>(i) % kStages), parity(static_cast<uint32_t>(i) / kStages & 1) {}
};

// s (64, kColumns) = a b^T for 64 rows of a tile of `kPanelRows` and the kColumns rows of another.
template <int kHeadDim, int kPanelRows, int kScores>
__device__ __forceinline__ void start_inner_products(float (&s)[kScores], const bf16* a, const bf16* b) {
  constexpr int kColumns = 2 * kScores;
#pragma unroll
  for (int p = 0; p < kHeadDim / 64; ++p) {
    const uint64_t left = wgmma_descriptor(a + p * kPanelRows * 64);
    const uint64_t right = wgmma_descriptor(b + p * kColumns * 64);
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const uint64_t k = 2 * static_cast<uint64_t>(step);
      if constexpr (kColumns == 64)
        wgmma_m64n64k16(s, left + k, right + k, p + step > 0);
      else
        wgmma_m64n128k16(s, left + k, right + k, p + step > 0);
    }
  }
  wgmma_commit();
}

// sums (64, kHeadDim) += p b for the 16 kSteps rows of tile b.
template <int kHeadDim, int kSteps>
__device__ __forceinline__ void start_weighted_sums(float (&sums)[kHeadDim / 2],
                                                    const uint32_t (&p)[kSteps][4], const bf16* b) {
  const uint64_t rows = wgmma_descriptor(b, 16 * kSteps * 128);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const uint64_t at = rows + 128 * static_cast<uint64_t>(step);
    if constexpr (kHeadDim == 64)
      wgmma_m64n64k16<Major::mn>(sums, p[step], at, true);
    else
      wgmma_m64n128k16<Major::mn>(sums, p[step], at, true);
  }
  wgmma_commit();
}

// Rounds a warpgroup's accumulators to what is operand a of the next product.
template <int kSteps>
__device__ __forceinline__ void round_operand(uint32_t (&p)[kSteps][4], const float (&s)[8 * kSteps]) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step)
#pragma unroll
    for (int i = 0; i < 4; ++i) p[step][i] = pack_bf16(s[8 * step + 2 * i], s[8 * step + 2 * i + 1]);
}

// Hides scores of the warpgroup's rows; `row` is this lane's first, `position` that of the warpgroup's first.
template <int kScores>
__device__ __forceinline__ void mask_rows(float (&s)[kScores], const int* lower, int position, int row,
                                          int key) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int least = lower[row + 8 * i] - key, greatest = position + row + 8 * i - key;
#pragma unroll
    for (int e = 2 * i; e < kScores; e += 4)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int column = 2 * e + fragment_column(j) - 4 * i;
        if (column > greatest || column < least) s[e + j] = -INFINITY;
      }
  }
}

// Writes the warpgroup's rows times factor[0] (a lane's first row) and factor[1], through `tile`, its 64 rows
// of panels of panel_rows. `to` is the first row, rows from `valid` on are left out.
template <int kHeadDim>
__device__ __forceinline__ void write_rows(bf16* to, int64_t stride, int valid, bf16* tile, int panel_rows,
                                           const float (&factor)[2], const float (&c)[kHeadDim / 2]) {
  const int warp_row = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16;
#pragma unroll
  for (int p = 0; p < kHeadDim / 64; ++p) {
    float panel[1][8][4];
#pragma unroll
    for (int e = 0; e < 32; ++e) panel[0][e / 4][e % 4] = c[32 * p + e] * factor[e / 2 % 2];
    const SharedTile<bf16, 64> rows_of_panel{tile + p * panel_rows * 64};
    store_fragment(rows_of_panel, warp_row, 0, panel);
    __syncwarp();
    copy_out<16>(to + warp_row * stride + 64 * p, stride, rows_of_panel, warp_row, valid - warp_row);
  }
}

#endif  // DEVICE_HAS_SM90A

}  // namespace polar::kernels
