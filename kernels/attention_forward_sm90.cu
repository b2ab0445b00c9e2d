// Attention, forward, for Hopper: what attention_forward.cu computes in bf16 for head widths of 64 and 128,
// with wgmma and TMA. Same arguments, results `=`, same floor.
//
// A block takes 128 queries of one head and has three warpgroups: one thread of the first lets the TMA engine
// copy tiles of keys and values into a ring of buffers, the two others compute 64 queries each. Their
// products are asynchronous: while the scores of the next tile and the values of this one are multiplied, a
// warpgroup does the softmax, and the two take turns at the tensor cores (Shah et al. 2024).
#include "attention_sm90.cuh"

namespace polar::kernels {

template <int kHeadDim>
struct HopperForward {
  static constexpr int kConsumers = 2, kThreads = (1 + kConsumers) * kWarpgroup;
  static constexpr int kQueries = 64 * kConsumers, kKeys = 128, kStages = kHeadDim == 64 ? 4 : 2;
  // A tile stands as panels of 64 columns: rows of 128 bytes, as the swizzle wants them.
  static constexpr int kPanels = kHeadDim / 64;
  static constexpr int kQueryElements = kQueries * kHeadDim, kKeyElements = kKeys * kHeadDim;
  static constexpr uint32_t kQueryBytes = kQueryElements * 2, kKeyBytes = kKeyElements * 2;
  static constexpr size_t kBarrierBytes = 256;
  static constexpr size_t kSharedBytes =
      kQueryBytes + 2 * kStages * kKeyBytes + kBarrierBytes + (8 + kQueries) * sizeof(int);
  // The registers of 384 threads (168 each) are given to those who compute.
  static constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
};

struct HopperForwardMaps {
  CUtensorMap q, k, v;
};

#ifdef DEVICE_HAS_SM90A

constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

// What the block has to do. Kept in shared memory, as the roles part after it is known.
struct HopperWork {
  int batch, head, first;  // first query
  int first_key, tiles;    // of keys
  int first_position, greatest_lower;
};

// The block's shared memory.
template <int kHeadDim>
struct HopperForwardShared {
  using Tiling = HopperForward<kHeadDim>;
  bf16 *q, *k, *v;  // one tile; kStages tiles each
  uint64_t *q_full, *k_full, *v_full, *k_empty, *v_empty;
  HopperWork* work;
  int* lower;  // of the mask's queries

  __device__ __forceinline__ explicit HopperForwardShared(unsigned char* memory)
      : q(reinterpret_cast<bf16*>(memory)),
        k(q + Tiling::kQueryElements),
        v(k + Tiling::kStages * Tiling::kKeyElements),
        q_full(reinterpret_cast<uint64_t*>(v + Tiling::kStages * Tiling::kKeyElements)),
        k_full(q_full + 1),
        v_full(k_full + Tiling::kStages),
        k_empty(v_full + Tiling::kStages),
        v_empty(k_empty + Tiling::kStages),
        work(reinterpret_cast<HopperWork*>(reinterpret_cast<unsigned char*>(q_full) + Tiling::kBarrierBytes)),
        lower(reinterpret_cast<int*>(work) + 8) {
    static_assert(sizeof(HopperWork) <= 8 * sizeof(int));
    static_assert((1 + 4 * Tiling::kStages) * sizeof(uint64_t) <= Tiling::kBarrierBytes);
  }
  __device__ __forceinline__ void initialise() const {
    constexpr int kConsumerWarps = Tiling::kConsumers * kWarpgroup / kWarpSize;
    mbarrier_init(q_full, 1);
    for (int i = 0; i < Tiling::kStages; ++i) {
      mbarrier_init(k_full + i, 1);
      mbarrier_init(v_full + i, 1);
      mbarrier_init(k_empty + i, kConsumerWarps);
      mbarrier_init(v_empty + i, kConsumerWarps);
    }
    mbarrier_fence_init();
  }
};

// One thread: copies queries, then keys and values tile by tile as buffers become free.
template <int kHeadDim>
__device__ __forceinline__ void copy_tiles(const HopperForwardMaps& maps,
                                           const HopperForwardShared<kHeadDim>& shared, int group) {
  const HopperWork work = *shared.work;
  using Tiling = HopperForward<kHeadDim>;
  mbarrier_arrive_expect(shared.q_full, Tiling::kQueryBytes);
  for (int p = 0; p < Tiling::kPanels; ++p)
    tma_load_3d(shared.q + p * Tiling::kQueries * 64, &maps.q, shared.q_full, work.head * kHeadDim + 64 * p,
                work.first, work.batch);
  const auto copy = [&](const CUtensorMap& map, bf16* to, uint64_t* full, uint64_t* empty,
                        RingPlace<Tiling::kStages> place, int key) {
    mbarrier_wait(empty + place.stage, place.parity ^ 1);
    mbarrier_arrive_expect(full + place.stage, Tiling::kKeyBytes);
    for (int p = 0; p < Tiling::kPanels; ++p)
      tma_load_3d(to + place.stage * Tiling::kKeyElements + p * Tiling::kKeys * 64, &map, full + place.stage,
                  work.head / group * kHeadDim + 64 * p, key, work.batch);
  };
  for (int i = 0; i < work.tiles; ++i) {
    const RingPlace<Tiling::kStages> place(i);
    const int key = work.first_key + i * Tiling::kKeys;
    copy(maps.k, shared.k, shared.k_full, shared.k_empty, place, key);
    copy(maps.v, shared.v, shared.v_full, shared.v_empty, place, key);
  }
}

// A lane's rows: 2 of the warpgroup's 64. Element e of an accumulator is in row e / 2 % 2 of these.
struct HopperRows {
  float maximum[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  float factor[2];  // what the last tile's maximum asks the output to be multiplied with
};

// Turns scores into 2^(scale_log2 (score - maximum)).
template <int kScores>
__device__ __forceinline__ void softmax_of_rows(float (&s)[kScores], float scale_log2, HopperRows& rows) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float greatest = rows.maximum[i];
#pragma unroll
    for (int e = 2 * i; e < kScores; e += 4) greatest = fmaxf(greatest, fmaxf(s[e], s[e + 1]));
    greatest = warp_reduce<4>(greatest, Maximum{});
    // A row that has seen no key yet: subtract 0, so that every term is 2^-infinity.
    const float base = greatest == -INFINITY ? 0.0f : greatest * scale_log2;
    rows.factor[i] = ex2(rows.maximum[i] * scale_log2 - base);
    rows.maximum[i] = greatest;
    float total = 0.0f;
#pragma unroll
    for (int e = 2 * i; e < kScores; e += 4) {
      s[e] = ex2(fmaf(s[e], scale_log2, -base));
      s[e + 1] = ex2(fmaf(s[e + 1], scale_log2, -base));
      total += s[e] + s[e + 1];
    }
    rows.sum[i] = rows.sum[i] * rows.factor[i] + total;
  }
}
// Normalises the warpgroup's rows and writes them, through its part of the tile of queries, and their lse.
template <int kHeadDim>
__device__ __forceinline__ void finish_output(const AttentionForwardArguments<bf16>& args, int batch,
                                              int head, int first, bf16* tile, HopperRows& rows,
                                              float (&output)[kHeadDim / 2]) {
  using Tiling = HopperForward<kHeadDim>;
  const AttentionSizes& sizes = args.sizes;
  const int warp_row = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16;
  const int64_t head_row = static_cast<int64_t>(batch) * sizes.heads_q + head;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float sum = warp_reduce<4>(rows.sum[i], Sum{});
    rows.factor[i] = sum > 0.0f ? 1.0f / sum : 0.0f;
    const int query = first + warp_row + fragment_row(2 * i);
    if (args.lse != nullptr && lane_index() % 4 == 0 && query < sizes.query_time)
      args.lse[head_row * sizes.query_time + query] =
          (rows.maximum[i] * (sizes.scale * kLog2E) + log2f(sum)) * kLn2;
  }
  bf16* to = args.output.data +
             (static_cast<int64_t>(batch) * sizes.query_time + first) * args.output.stride + head * kHeadDim;
  write_rows<kHeadDim>(to, args.output.stride, sizes.query_time - first, tile, Tiling::kQueries, rows.factor,
                       output);
}

// A warpgroup: 64 queries, all tiles.
template <int kHeadDim>
__device__ __forceinline__ void compute_tiles(const AttentionForwardArguments<bf16>& args,
                                              const HopperForwardShared<kHeadDim>& shared) {
  using Tiling = HopperForward<kHeadDim>;
  using Place = RingPlace<Tiling::kStages>;
  constexpr int kKeys = Tiling::kKeys;
  const int consumer = static_cast<int>(threadIdx.x) / kWarpgroup - 1;
  bf16* q = shared.q + consumer * 64 * 64;
  const int tiles = shared.work->tiles, first_key = shared.work->first_key;
  const int position = shared.work->first_position + 64 * consumer;  // of the warpgroup's first query
  const int row = static_cast<int>(threadIdx.x) % kWarpgroup / kWarpSize * 16 + lane_index() / 4;
  const float scale_log2 = args.sizes.scale * kLog2E;

  HopperRows rows;
  float s[kKeys / 2], output[kHeadDim / 2];
  uint32_t p[kKeys / 16][4];
#pragma unroll
  for (int e = 0; e < kHeadDim / 2; ++e) output[e] = 0.0f;

  const auto wait_for_keys = [&](int i) {
    const Place place(i);
    mbarrier_wait(shared.k_full + place.stage, place.parity);
  };
  const auto scores = [&](int i) {
    const Place place(i);
    wgmma_hold(s);
    wgmma_fence();
    start_inner_products<kHeadDim, Tiling::kQueries>(s, q, shared.k + place.stage * Tiling::kKeyElements);
  };
  const auto values = [&](int i) {
    const Place place(i);
    mbarrier_wait(shared.v_full + place.stage, place.parity);
    wgmma_hold(output);
    wgmma_hold(p);
    wgmma_fence();
    start_weighted_sums<kHeadDim>(output, p, shared.v + place.stage * Tiling::kKeyElements);
  };
  const auto release = [&](uint64_t* empty, int i) {
    if (lane_index() == 0) mbarrier_arrive(empty + Place(i).stage);
  };
  const auto softmax = [&](int i) {
    const int key = first_key + i * kKeys;
    if (key + kKeys - 1 > position || key < shared.work->greatest_lower)
      mask_rows(s, shared.lower + 64 * consumer, position, row, key);
    softmax_of_rows(s, scale_log2, rows);
    wgmma_hold(s);
    // Here, as the compiler moves the softmax behind a wait for products, but not across a branch.
    if (i + 1 < tiles) wait_for_keys(i + 1);
  };
  // The two take turns: 1 + consumer is where a warpgroup waits until the other has started its products.
  const auto wait_for_turn = [&] { named_barrier_sync(1 + consumer, Tiling::kConsumers * kWarpgroup); };
  const auto give_turn = [&] { named_barrier_arrive(2 - consumer, Tiling::kConsumers * kWarpgroup); };

  if (consumer == 1 && tiles > 1) give_turn();
  mbarrier_wait(shared.q_full, 0);
  wait_for_keys(0);
  scores(0);
  wgmma_wait<0>();
  wgmma_hold(s);
  release(shared.k_empty, 0);
  softmax(0);
  round_operand(p, s);
  for (int i = 1; i < tiles; ++i) {
    wait_for_turn();
    scores(i);
    values(i - 1);
    if (consumer == 0 || i + 1 < tiles) give_turn();
    wgmma_wait<1>();
    wgmma_hold(s);
    release(shared.k_empty, i);
    softmax(i);
    wgmma_wait<0>();
    wgmma_hold(output);
    release(shared.v_empty, i - 1);
#pragma unroll
    for (int e = 0; e < kHeadDim / 2; ++e) output[e] *= rows.factor[e / 2 % 2];
    round_operand(p, s);
  }
  values(tiles - 1);
  wgmma_wait<0>();
  wgmma_hold(output);
  named_barrier_sync(3 + consumer, kWarpgroup);  // the four warps have read their queries
  finish_output<kHeadDim>(args, shared.work->batch, shared.work->head, shared.work->first + 64 * consumer, q,
                          rows, output);
}

#endif  // DEVICE_HAS_SM90A

template <int kHeadDim>
__global__ void __launch_bounds__(HopperForward<kHeadDim>::kThreads, 1)
    attention_forward_sm90_kernel(const __grid_constant__ HopperForwardMaps maps,
                                  const AttentionForwardArguments<bf16> args) {
#ifdef DEVICE_HAS_SM90A
  using Tiling = HopperForward<kHeadDim>;
  DEVICE_DYNAMIC_SHARED(memory);
  const HopperForwardShared<kHeadDim> shared(memory);
  const AttentionSizes& sizes = args.sizes;
  const int batch = static_cast<int>(blockIdx.x) / sizes.heads_q;
  const int first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * Tiling::kQueries;  // longest blocks first
  const AttentionMask mask(sizes, args.document_starts, batch);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kWarpSize) {
    const LowerBounds bounds = lower_bounds<Tiling::kQueries>(mask, first);
    const int first_key = bounds.least / Tiling::kKeys * Tiling::kKeys;
    const int end_key = mask.position(min(first + Tiling::kQueries, sizes.query_time) - 1) + 1;
    if (thread == 0) {
      *shared.work = {batch,
                      static_cast<int>(blockIdx.x) % sizes.heads_q,
                      first,
                      first_key,
                      (end_key - first_key + Tiling::kKeys - 1) / Tiling::kKeys,
                      mask.position(first),
                      bounds.greatest};
      shared.initialise();
    }
  }
  if (thread < Tiling::kQueries) shared.lower[thread] = mask.lower(first + thread);
  __syncthreads();
  if (thread < kWarpgroup) {
    set_maximum_registers_down<Tiling::kProducerRegisters>();
    if (thread == 0) copy_tiles(maps, shared, sizes.heads_q / sizes.heads_kv);
  } else {
    set_maximum_registers_up<Tiling::kConsumerRegisters>();
    compute_tiles(args, shared);
  }
#endif
}

template <int kHeadDim>
cudaError_t launch_forward_sm90(const AttentionForwardArguments<bf16>& args, cudaStream_t stream) {
  using Tiling = HopperForward<kHeadDim>;
  const AttentionSizes& sizes = args.sizes;
  HopperForwardMaps maps;
  cudaError_t status = attention_tensor_map(&maps.q, args.q, sizes.batch, sizes.query_time,
                                            sizes.heads_q * kHeadDim, Tiling::kQueries);
  if (status == cudaSuccess)
    status = attention_tensor_map(&maps.k, args.k, sizes.batch, sizes.key_time, sizes.heads_kv * kHeadDim,
                                  Tiling::kKeys);
  if (status == cudaSuccess)
    status = attention_tensor_map(&maps.v, args.v, sizes.batch, sizes.key_time, sizes.heads_kv * kHeadDim,
                                  Tiling::kKeys);
  const auto kernel = &attention_forward_sm90_kernel<kHeadDim>;
  if (status == cudaSuccess) status = device_allow_dynamic_shared(kernel, Tiling::kSharedBytes);
  if (status != cudaSuccess) return status;
  const unsigned tiles = static_cast<unsigned>((sizes.query_time + Tiling::kQueries - 1) / Tiling::kQueries);
  const unsigned heads = static_cast<unsigned>(sizes.batch) * static_cast<unsigned>(sizes.heads_q);
  return device_launch(LaunchConfig(dim3(heads, tiles), Tiling::kThreads, Tiling::kSharedBytes, stream),
                       kernel, maps, args);
}

bool has_attention_forward_sm90(int head_dim) {
  return (head_dim == 64 || head_dim == 128) && on_hopper();
}

cudaError_t attention_forward_sm90(const AttentionForwardArguments<bf16>& args, cudaStream_t stream) {
  return args.sizes.head_dim == 64 ? launch_forward_sm90<64>(args, stream)
                                   : launch_forward_sm90<128>(args, stream);
}

}  // namespace polar::kernels
