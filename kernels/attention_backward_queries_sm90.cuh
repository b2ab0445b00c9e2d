// The blocks of attention_backward_sm90.cu that own queries: dq.
#pragma once

#include "attention_backward_sm90.cuh"

namespace polar::kernels {

template <int kHeadDim>
struct HopperQueries {
  static constexpr int kQueries = kOwnedRows, kKeys = kHeadDim == 64 ? 128 : 64, kStages = 4;
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kQueryElements = kQueries * kHeadDim, kKeyElements = kKeys * kHeadDim;
  static constexpr uint32_t kQueryBytes = kQueryElements * 2, kKeyBytes = kKeyElements * 2;
  static constexpr size_t kWorkBytes = 32, kBarrierBytes = 128;
  static constexpr size_t kSharedBytes =
      2 * kQueryBytes + kStages * 2 * kKeyBytes + kQueries * sizeof(int) + kWorkBytes + kBarrierBytes;
};

#ifdef DEVICE_HAS_SM90A

// What the block owns, and the tiles of keys it has to visit.
struct QueryBlock {
  int batch, head, first;  // first query
  int first_key, tiles;    // of keys
  int greatest_lower;      // of the mask
};

template <int kHeadDim>
struct HopperQueriesShared {
  using Tiling = HopperQueries<kHeadDim>;
  bf16 *q, *doutput, *k, *v;  // one tile each; kStages tiles each
  int* lower;                 // of the mask's queries
  QueryBlock* block;
  BackwardBarriers<Tiling> barriers;

  __device__ __forceinline__ explicit HopperQueriesShared(unsigned char* memory)
      : q(reinterpret_cast<bf16*>(memory)),
        doutput(q + Tiling::kQueryElements),
        k(doutput + Tiling::kQueryElements),
        v(k + Tiling::kStages * Tiling::kKeyElements),
        lower(reinterpret_cast<int*>(v + Tiling::kStages * Tiling::kKeyElements)),
        block(reinterpret_cast<QueryBlock*>(lower + Tiling::kQueries)),
        barriers(reinterpret_cast<unsigned char*>(block) + Tiling::kWorkBytes) {
    static_assert(sizeof(QueryBlock) <= Tiling::kWorkBytes);
  }
};

// The last queries see the most keys: these blocks come first.
template <int kHeadDim>
__device__ __forceinline__ void prepare_queries(const AttentionBackwardArguments<bf16>& args,
                                                const HopperQueriesShared<kHeadDim>& shared, int index) {
  using Tiling = HopperQueries<kHeadDim>;
  const AttentionSizes& sizes = args.sizes;
  const int heads = sizes.batch * sizes.heads_q, head = index % heads, batch = head / sizes.heads_q;
  const int first = (owned_tiles(sizes) - 1 - index / heads) * kOwnedRows;
  const AttentionMask mask(sizes, args.document_starts, batch);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kWarpSize) {
    const LowerBounds bounds = lower_bounds<kOwnedRows>(mask, first);
    const int first_key = bounds.least / Tiling::kKeys * Tiling::kKeys;
    const int end_key = min(first + kOwnedRows, sizes.query_time);
    const int tiles = (end_key - first_key + Tiling::kKeys - 1) / Tiling::kKeys;
    if (thread == 0) {
      *shared.block = {batch, head % sizes.heads_q, first, first_key, tiles, bounds.greatest};
      shared.barriers.initialise();
    }
  }
  if (thread < kOwnedRows) shared.lower[thread] = mask.lower(first + thread);
}

// One thread: copies the queries and their dO, then the tiles of keys and values as buffers become free.
template <int kHeadDim>
__device__ __forceinline__ void copy_keys(const HopperBackwardMaps& maps,
                                          const HopperQueriesShared<kHeadDim>& shared, int group) {
  using Tiling = HopperQueries<kHeadDim>;
  constexpr int kPanels = Tiling::kPanels;
  const QueryBlock block = *shared.block;
  const BackwardBarriers<Tiling>& barriers = shared.barriers;
  mbarrier_arrive_expect(barriers.own, 2 * Tiling::kQueryBytes);
  copy_tile<Tiling::kQueries, kPanels>(shared.q, maps.q, barriers.own, block.head * kHeadDim, block.first,
                                       block.batch);
  copy_tile<Tiling::kQueries, kPanels>(shared.doutput, maps.doutput, barriers.own, block.head * kHeadDim,
                                       block.first, block.batch);
  for (int i = 0; i < block.tiles; ++i) {
    const int stage = RingPlace<Tiling::kStages>(i).stage;
    const int column = block.head / group * kHeadDim, key = block.first_key + i * Tiling::kKeys;
    uint64_t* full = barriers.full + stage;
    barriers.wait_for_buffer(i);
    mbarrier_arrive_expect(full, 2 * Tiling::kKeyBytes);
    copy_tile<Tiling::kKeys, kPanels>(shared.k + stage * Tiling::kKeyElements, maps.k, full, column, key,
                                      block.batch);
    copy_tile<Tiling::kKeys, kPanels>(shared.v + stage * Tiling::kKeyElements, maps.v, full, column, key,
                                      block.batch);
  }
}

// A warpgroup: 64 queries, all tiles of keys.
template <int kHeadDim>
__device__ __forceinline__ void compute_queries(const AttentionBackwardArguments<bf16>& args,
                                                const HopperQueriesShared<kHeadDim>& shared) {
  using Tiling = HopperQueries<kHeadDim>;
  using Place = RingPlace<Tiling::kStages>;
  constexpr int kKeys = Tiling::kKeys, kScores = kKeys / 2;
  const AttentionSizes& sizes = args.sizes;
  const BackwardBarriers<Tiling>& barriers = shared.barriers;
  const int consumer = warpgroup_index() - 1;
  const int first = shared.block->first + 64 * consumer, first_key = shared.block->first_key;
  const int row = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16 + lane_index() / 4;
  bf16 *const q = shared.q + consumer * 64 * 64, *const doutput = shared.doutput + consumer * 64 * 64;
  const float scale_log2 = sizes.scale * kLog2E;

  // Behind this warpgroup's last query there are only keys that it does not see.
  const int tiles = min(shared.block->tiles, (first + 64 - first_key + kKeys - 1) / kKeys);
  float lse[2], delta[2];
  const float* terms =
      BackwardWorkspace(sizes, args.workspace).terms_of(sizes, shared.block->batch, shared.block->head);
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    lse[i] = terms[term_of(first + row + 8 * i) + kTermLse];
    delta[i] = terms[term_of(first + row + 8 * i) + kTermDelta];
  }

  float dq[kHeadDim / 2], s[kScores], dp[kScores];
  uint32_t ds[kKeys / 16][4];
#pragma unroll
  for (int e = 0; e < kHeadDim / 2; ++e) dq[e] = 0.0f;
  const auto start_scores = [&](int i) {
    start_inner_products<kHeadDim, Tiling::kQueries>(s, q, shared.k + Place(i).stage * Tiling::kKeyElements);
  };
  const auto start_dp = [&](int i) {
    start_inner_products<kHeadDim, Tiling::kQueries>(dp, doutput,
                                                     shared.v + Place(i).stage * Tiling::kKeyElements);
  };

  const auto softmax = [&](int i) {
    const int key = first_key + i * kKeys;
    wgmma_wait<2>();
    wgmma_hold(s);
    if (key + kKeys - 1 > first || key < shared.block->greatest_lower)
      mask_rows(s, shared.lower + 64 * consumer, first, row, key);
#pragma unroll
    for (int e = 0; e < kScores; ++e) s[e] = ex2(fmaf(s[e], scale_log2, -lse[e / 2 % 2]));
    wgmma_hold(s);
    // Here, as the compiler moves the exponentials behind a wait for products, but not across a branch.
    if (i + 1 < tiles) barriers.wait_for_tile(i + 1);
    wgmma_wait<0>();  // dp is there, ds is free
    wgmma_hold(dp);
    if (i > 0) barriers.release(i - 1);
#pragma unroll
    for (int e = 0; e < kScores; ++e) dp[e] = s[e] * (dp[e] - delta[e / 2 % 2]);
    round_operand(ds, dp);
  };
  const auto start_dq = [&](int i) {
    start_weighted_sums<kHeadDim>(dq, ds, shared.k + Place(i).stage * Tiling::kKeyElements);
  };

  mbarrier_wait(barriers.own, 0);
  barriers.wait_for_tile(0);
  wgmma_hold(dq);
  wgmma_hold(s);
  wgmma_hold(dp);
  wgmma_fence();
  start_scores(0);
  wgmma_commit();  // an empty group in the place of dQ's
  start_dp(0);
  softmax(0);
  for (int i = 1; i < tiles; ++i) {
    wgmma_hold(s);
    wgmma_hold(dp);
    wgmma_hold(ds);
    wgmma_fence();
    start_scores(i);
    start_dq(i - 1);
    start_dp(i);
    softmax(i);
  }
  wgmma_hold(ds);
  wgmma_fence();
  start_dq(tiles - 1);
  wgmma_wait<0>();
  wgmma_hold(dq);
  named_barrier_sync(1 + consumer, kWarpgroup);  // the four warps have read their queries
  const int64_t first_row = static_cast<int64_t>(shared.block->batch) * sizes.query_time + first;
  const float scale[2] = {sizes.scale, sizes.scale};
  write_rows<kHeadDim>(args.dq.data + first_row * args.dq.stride + shared.block->head * kHeadDim,
                       args.dq.stride, sizes.query_time - first, q, Tiling::kQueries, scale, dq);
}

#endif  // DEVICE_HAS_SM90A

}  // namespace polar::kernels
