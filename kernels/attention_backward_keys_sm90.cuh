// The blocks of attention_backward_sm90.cu that own keys: dk and dv.
#pragma once

#include "attention_backward_sm90.cuh"

namespace polar::kernels {

template <int kHeadDim>
struct HopperKeys {
  static constexpr int kKeys = kOwnedRows, kQueries = kHopperQueryTile, kStages = 4;
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kKeyElements = kKeys * kHeadDim, kQueryElements = kQueries * kHeadDim;
  static constexpr uint32_t kKeyBytes = kKeyElements * 2, kQueryBytes = kQueryElements * 2;
  static constexpr uint32_t kTermBytes = kQueries * kTerms * sizeof(float);
  static constexpr size_t kWorkBytes = 64, kBarrierBytes = 128;
  static constexpr size_t kSharedBytes =
      2 * kKeyBytes + kStages * (2 * kQueryBytes + kTermBytes) + kWorkBytes + kBarrierBytes;
};

#ifdef DEVICE_HAS_SM90A

// A tile of queries in the ring: its first, and the bounds of its mask. query < 0: the walk is over.
struct QueryTile {
  int query;
  LowerBounds bounds;
};

// The block's keys: of one kv head, from `key` on.
struct KeyBlock {
  int batch, head_kv, key;
};

template <int kHeadDim>
struct HopperKeysShared {
  using Tiling = HopperKeys<kHeadDim>;
  bf16 *k, *v, *q, *doutput;  // one tile each; kStages tiles each
  float* terms;               // kStages tiles of them
  KeyBlock* block;            // kept here, as registers are scarce
  QueryTile* tiles;
  BackwardBarriers<Tiling> barriers;

  __device__ __forceinline__ explicit HopperKeysShared(unsigned char* memory)
      : k(reinterpret_cast<bf16*>(memory)),
        v(k + Tiling::kKeyElements),
        q(v + Tiling::kKeyElements),
        doutput(q + Tiling::kStages * Tiling::kQueryElements),
        terms(reinterpret_cast<float*>(doutput + Tiling::kStages * Tiling::kQueryElements)),
        block(reinterpret_cast<KeyBlock*>(terms + Tiling::kStages * Tiling::kQueries * kTerms)),
        tiles(reinterpret_cast<QueryTile*>(block + 1)),
        barriers(reinterpret_cast<unsigned char*>(block) + Tiling::kWorkBytes) {
    static_assert(sizeof(KeyBlock) + Tiling::kStages * sizeof(QueryTile) <= Tiling::kWorkBytes);
  }
};

// The first keys are seen by the most queries: these blocks come first.
template <int kHeadDim>
__device__ __forceinline__ void prepare_keys(const AttentionSizes& sizes,
                                             const HopperKeysShared<kHeadDim>& shared, int index) {
  if (threadIdx.x != 0) return;
  const int heads = sizes.batch * sizes.heads_kv, head = index % heads;
  *shared.block = {head / sizes.heads_kv, head % sizes.heads_kv, index / heads * kOwnedRows};
  shared.barriers.initialise();
}

// One thread: copies the keys and values, then the tiles of queries of the walk as buffers become free.
template <int kHeadDim>
__device__ __forceinline__ void copy_queries(const HopperBackwardMaps& maps,
                                             const AttentionBackwardArguments<bf16>& args,
                                             const HopperKeysShared<kHeadDim>& shared) {
  using Tiling = HopperKeys<kHeadDim>;
  const AttentionSizes& sizes = args.sizes;
  const KeyBlock block = *shared.block;
  const BackwardBarriers<Tiling>& barriers = shared.barriers;
  constexpr int kPanels = Tiling::kPanels, kQueries = Tiling::kQueries;
  mbarrier_arrive_expect(barriers.own, 2 * Tiling::kKeyBytes);
  copy_tile<Tiling::kKeys, kPanels>(shared.k, maps.k, barriers.own, block.head_kv * kHeadDim, block.key,
                                    block.batch);
  copy_tile<Tiling::kKeys, kPanels>(shared.v, maps.v, barriers.own, block.head_kv * kHeadDim, block.key,
                                    block.batch);

  const BackwardWorkspace workspace(sizes, args.workspace);
  const int group = sizes.heads_q / sizes.heads_kv,
            last_key = min(block.key + Tiling::kKeys, sizes.key_time) - 1;
  QueryWalk walk(sizes, workspace.bounds_of(block.batch), kQueries, block.key, last_key);
  int i = 0;
  for (; walk.member < group; walk.next(), ++i) {
    const int stage = RingPlace<Tiling::kStages>(i).stage;
    const int head = block.head_kv * group + walk.member, query = walk.tile * kQueries;
    uint64_t* full = barriers.full + stage;
    barriers.wait_for_buffer(i);
    shared.tiles[stage] = {query, walk.bounds[walk.tile]};
    mbarrier_arrive_expect(full, 2 * Tiling::kQueryBytes + Tiling::kTermBytes);
    copy_tile<kQueries, kPanels>(shared.q + stage * Tiling::kQueryElements, maps.q, full, head * kHeadDim,
                                 query, block.batch);
    copy_tile<kQueries, kPanels>(shared.doutput + stage * Tiling::kQueryElements, maps.doutput, full,
                                 head * kHeadDim, query, block.batch);
    tma_load_bytes(shared.terms + stage * kQueries * kTerms,
                   workspace.terms_of(sizes, block.batch, head) + term_of(query), Tiling::kTermBytes, full);
  }
  barriers.wait_for_buffer(i);
  const int stage = RingPlace<Tiling::kStages>(i).stage;
  shared.tiles[stage].query = -1;
  mbarrier_arrive(barriers.full + stage);
}

// Hides scores of the warpgroup's rows, which are keys; `key` is this lane's first, columns are the queries
// from `query` on.
template <int kScores>
__device__ __forceinline__ void mask_keys(float (&s)[kScores], const float* terms, int key, int query) {
#pragma unroll
  for (int e = 0; e < kScores; e += 4)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int column = 2 * e + fragment_column(j);
      const int lower = __float_as_int(terms[term_of(2 * e) + fragment_column(j) + kTermLower]);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int row = key + 8 * i;
        if (row > query + column || row < lower) s[e + 2 * i + j] = -INFINITY;
      }
    }
}

// Calls change(element of an accumulator, lse or delta of its column) for all kScores elements.
template <int kScores, class Change>
__device__ __forceinline__ void for_columns(const float* terms, Term term, const Change& change) {
#pragma unroll
  for (int e = 0; e < kScores; e += 4) {
    const float2 pair = *reinterpret_cast<const float2*>(terms + term_of(2 * e) + fragment_column(0) + term);
#pragma unroll
    for (int i = 0; i < 4; ++i) change(e + i, i % 2 == 0 ? pair.x : pair.y);
  }
}

// A warpgroup: 64 keys, all tiles of queries.
template <int kHeadDim>
__device__ __forceinline__ void compute_keys(const AttentionBackwardArguments<bf16>& args,
                                             const HopperKeysShared<kHeadDim>& shared) {
  using Tiling = HopperKeys<kHeadDim>;
  using Place = RingPlace<Tiling::kStages>;
  constexpr int kQueries = Tiling::kQueries, kScores = kQueries / 2;
  const AttentionSizes& sizes = args.sizes;
  const BackwardBarriers<Tiling>& barriers = shared.barriers;
  const int consumer = warpgroup_index() - 1;
  const int key = shared.block->key + 64 * consumer;  // the warpgroup's first
  const int row = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16 + lane_index() / 4;
  bf16 *const k = shared.k + consumer * 64 * 64, *const v = shared.v + consumer * 64 * 64;
  const float scale_log2 = sizes.scale * kLog2E;

  float dk[kHeadDim / 2], dv[kHeadDim / 2], s[kScores], dp[kScores];
  uint32_t p[kQueries / 16][4], ds[kQueries / 16][4];
#pragma unroll
  for (int e = 0; e < kHeadDim / 2; ++e) dk[e] = dv[e] = 0.0f;

  int before = -1;  // the tile of which dK is under way
  // The next tile of the ring from i on of which this warpgroup sees something.
  const auto visible_from = [&](int i) {
    for (;; ++i) {
      barriers.wait_for_tile(i);
      const QueryTile tile = shared.tiles[Place(i).stage];
      if (tile.query < 0) return -1;
      if (tile.query + kQueries > key && tile.bounds.least < key + 64) return i;
      if (before >= 0) {  // to hold a buffer while many tiles pass by would stop the ring
        wgmma_wait<0>();
        barriers.release(before);
        before = -1;
      }
      barriers.release(i);
    }
  };

  mbarrier_wait(barriers.own, 0);
  wgmma_hold(dk);
  wgmma_hold(dv);
  for (int i = visible_from(0); i >= 0;) {
    const int stage = Place(i).stage;
    const bf16* q = shared.q + stage * Tiling::kQueryElements;
    const bf16* doutput = shared.doutput + stage * Tiling::kQueryElements;
    const float* terms = shared.terms + stage * kQueries * kTerms;
    const QueryTile tile = shared.tiles[stage];
    wgmma_hold(s);
    wgmma_hold(dp);
    wgmma_fence();
    start_inner_products<kHeadDim, Tiling::kKeys>(s, k, q);
    start_inner_products<kHeadDim, Tiling::kKeys>(dp, v, doutput);
    wgmma_wait<1>();  // s is there, p and ds are free
    wgmma_hold(s);
    if (before >= 0) barriers.release(before);
    if (is_partial(tile.query, tile.bounds, key, 64)) mask_keys(s, terms, key + row, tile.query);
    for_columns<kScores>(terms, kTermLse,
                         [&](int e, float lse) { s[e] = ex2(fmaf(s[e], scale_log2, -lse)); });
    round_operand(p, s);
    wgmma_hold(p);
    wgmma_fence();
    start_weighted_sums<kHeadDim>(dv, p, doutput);
    wgmma_wait<1>();  // dp is there
    wgmma_hold(dp);
    for_columns<kScores>(terms, kTermDelta, [&](int e, float delta) { dp[e] = s[e] * (dp[e] - delta); });
    round_operand(ds, dp);
    wgmma_hold(ds);
    wgmma_fence();
    start_weighted_sums<kHeadDim>(dk, ds, q);
    before = i;
    i = visible_from(i + 1);
    // Too few registers to have the next scores under way beside it.
    if constexpr (kHeadDim == 128) wgmma_wait<0>();
  }
  wgmma_wait<0>();
  wgmma_hold(dk);
  wgmma_hold(dv);
  named_barrier_sync(1 + consumer, kWarpgroup);  // the four warps have read their keys and values
  const KeyBlock block = *shared.block;
  const int64_t first_row = static_cast<int64_t>(block.batch) * sizes.key_time + key;
  const float scale[2] = {sizes.scale, sizes.scale}, one[2] = {1.0f, 1.0f};
  const int column = block.head_kv * kHeadDim, valid = sizes.key_time - key;
  write_rows<kHeadDim>(args.dk.data + first_row * args.dk.stride + column, args.dk.stride, valid, k,
                       Tiling::kKeys, scale, dk);
  write_rows<kHeadDim>(args.dv.data + first_row * args.dv.stride + column, args.dv.stride, valid, v,
                       Tiling::kKeys, one, dv);
}

#endif  // DEVICE_HAS_SM90A

}  // namespace polar::kernels
