// Attention, forward: output = softmax(scale q k^T + mask) v, lse = log sum exp of the rows' scores; both
// `=`.
//
// q, output (B*Tq, Hq*D), k, v (B*Tk, Hkv*D) in T = float or bf16 with row strides, lse (B, Hq, Tq) float.
// A block owns a tile of queries of one head and walks along the keys that any of them sees, with a running
// maximum and sum (online softmax; Milakov and Gimelshein 2018, Dao et al. 2022): scores exist one tile at a
// time, in registers. The scale, times log2(e), goes into the FMA before 2^x, so that q is not rounded again.
// Tiles that the mask hides are not visited. Later queries see more keys: their blocks start first.
//
// Floor: 4 D FLOPs for every (query, key) that the mask shows and every head; bytes: q, k, v read and output
// written once, while a sequence's k and v stay in the L2 cache.
#include "attention.h"
#include "attention_mask.cuh"

namespace polar::kernels {

constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

// Queries of a block: 16 * kRowBlocks a warp. bf16 uses each fragment of k and v for two blocks of rows,
// which halves the traffic from shared memory; float is for tests and short of registers sooner.
template <class T, int kHeadDim>
struct ForwardTiling {
  static constexpr bool kSingle = sizeof(T) == sizeof(float);
  static constexpr int kWarps = 4, kThreads = kWarps * kWarpSize;
  static constexpr int kRowBlocks = kSingle ? 1 : 2;
  static constexpr int kQueries = 16 * kRowBlocks * kWarps;
  static constexpr int kKeys = kSingle ? 32 : kHeadDim < 96 ? 64 : 48;
  static constexpr int kScratch = kSingle ? fragment_scratch(kRowBlocks, kKeys / 8) : 0;  // floats a warp
  static constexpr size_t kSharedBytes = sizeof(T) * kHeadDim * (kQueries + 2 * kKeys) +
                                         sizeof(int) * kQueries + sizeof(float) * kScratch * kWarps;
};

// What a lane keeps of its rows while it walks along the keys.
template <int kRowBlocks, int kWidthBlocks>
struct ForwardState {
  float maximum[kRowBlocks][2];  // of the scores so far, in units of log2 / scale
  float sum[kRowBlocks][2];      // of 2^(score - maximum), this lane's columns only
  float output[kRowBlocks][kWidthBlocks][4];
};

// Turns scores into 2^(scale_log2 (score - maximum)) under the new maximum, and brings state to it.
template <int kRowBlocks, int kKeyBlocks, int kWidthBlocks>
__device__ __forceinline__ void online_softmax(float (&s)[kRowBlocks][kKeyBlocks][4], float scale_log2,
                                               ForwardState<kRowBlocks, kWidthBlocks>& state) {
  float factor[kRowBlocks][2];
  bool risen = false;
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float greatest = state.maximum[m][i];
#pragma unroll
      for (int n = 0; n < kKeyBlocks; ++n)
        greatest = fmaxf(greatest, fmaxf(s[m][n][2 * i], s[m][n][2 * i + 1]));
      greatest = warp_reduce<4>(greatest, Maximum{});
      // A row that has seen no key yet: subtract 0, so that every term is 2^-infinity.
      const float base = greatest == -INFINITY ? 0.0f : greatest * scale_log2;
      factor[m][i] = ex2(state.maximum[m][i] * scale_log2 - base);
      risen |= greatest != state.maximum[m][i];
      state.maximum[m][i] = greatest;
      float total = 0.0f;
#pragma unroll
      for (int n = 0; n < kKeyBlocks; ++n)
#pragma unroll
        for (int e = 2 * i; e < 2 * i + 2; ++e) {
          s[m][n][e] = ex2(fmaf(s[m][n][e], scale_log2, -base));
          total += s[m][n][e];
        }
      state.sum[m][i] = state.sum[m][i] * factor[m][i] + total;
    }
  if (!__any_sync(kFullWarp, risen)) return;  // all factors are 1
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int n = 0; n < kWidthBlocks; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) state.output[m][n][e] *= factor[m][e / 2];
}

// Normalises the rows, writes them through `tile` (the warp's own rows of it), and their lse.
template <class T, int kHeadDim, int kRowBlocks>
__device__ __forceinline__ void finish_rows(const AttentionForwardArguments<T>& args, int batch, int head,
                                            int first, SharedTile<T, kHeadDim> tile, int tile_row,
                                            ForwardState<kRowBlocks, kHeadDim / 8>& state) {
  const AttentionSizes& sizes = args.sizes;
  float* lse = args.lse + (static_cast<int64_t>(batch) * sizes.heads_q + head) * sizes.query_time;
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float sum = warp_reduce<4>(state.sum[m][i], Sum{});
      const float inverse = sum > 0.0f ? 1.0f / sum : 0.0f;
#pragma unroll
      for (int n = 0; n < kHeadDim / 8; ++n) {
        state.output[m][n][2 * i] *= inverse;
        state.output[m][n][2 * i + 1] *= inverse;
      }
      const int query = first + 16 * m + fragment_row(2 * i);
      if (args.lse != nullptr && lane_index() % 4 == 0 && query < sizes.query_time)
        lse[query] = (state.maximum[m][i] * (sizes.scale * kLog2E) + log2f(sum)) * kLn2;
    }
  store_fragment(tile, tile_row, 0, state.output);
  __syncwarp();
  T* to = args.output.data + (static_cast<int64_t>(batch) * sizes.query_time + first) * args.output.stride +
          head * kHeadDim;
  copy_out<16 * kRowBlocks>(to, args.output.stride, tile, tile_row, sizes.query_time - first);
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(ForwardTiling<T, kHeadDim>::kThreads)
    attention_forward_kernel(const AttentionForwardArguments<T> args) {
  using Tiling = ForwardTiling<T, kHeadDim>;
  using Tile = SharedTile<T, kHeadDim>;
  constexpr int kKeys = Tiling::kKeys, kQueries = Tiling::kQueries, kRowBlocks = Tiling::kRowBlocks;
  DEVICE_DYNAMIC_SHARED(shared);
  const Tile q_tile{reinterpret_cast<T*>(shared)}, k_tile{q_tile.data + kQueries * kHeadDim},
      v_tile{k_tile.data + kKeys * kHeadDim};
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  int* const lower = reinterpret_cast<int*>(v_tile.data + kKeys * kHeadDim);  // of the block's queries
  float* const scratch = reinterpret_cast<float*>(lower + kQueries) + warp * Tiling::kScratch;

  const AttentionSizes& sizes = args.sizes;
  const int head = static_cast<int>(blockIdx.x) % sizes.heads_q,
            batch = static_cast<int>(blockIdx.x) / sizes.heads_q;
  const int head_kv = head / (sizes.heads_q / sizes.heads_kv);
  const int first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kQueries;  // query of the block
  const AttentionMask mask(sizes, args.document_starts, batch);
  const LowerBounds bounds = lower_bounds<kQueries>(mask, first);
  const int first_key = bounds.least / kKeys * kKeys;
  const int end_key = mask.position(min(first + kQueries, sizes.query_time) - 1) + 1;

  const T* q = args.q.data + (static_cast<int64_t>(batch) * sizes.query_time + first) * args.q.stride +
               head * kHeadDim;
  const int64_t key_row = static_cast<int64_t>(batch) * sizes.key_time + first_key;
  using KeyCopy = RowCopy<T, kHeadDim, Tiling::kThreads>;
  KeyCopy k(args.k.data + key_row * args.k.stride + head_kv * kHeadDim, args.k.stride);
  KeyCopy v(args.v.data + key_row * args.v.stride + head_kv * kHeadDim, args.v.stride);

  const int warp_row = warp * 16 * kRowBlocks;
  for (int i = static_cast<int>(threadIdx.x); i < kQueries; i += Tiling::kThreads)
    lower[i] = mask.lower(first + i);
  ForwardState<kRowBlocks, kHeadDim / 8> state;
  clear(state.output);
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int i = 0; i < 2; ++i) state.maximum[m][i] = -INFINITY, state.sum[m][i] = 0.0f;

  start_copy<kQueries, Tiling::kThreads>(q_tile, q, args.q.stride, sizes.query_time - first);
  k.template start<kKeys>(k_tile, sizes.key_time - first_key);
  cp_async_commit();
  for (int key = first_key; key < end_key; key += kKeys) {
    cp_async_wait<0>();
    __syncthreads();  // these keys are here, the values before them have been read
    v.template start<kKeys>(v_tile, sizes.key_time - key);
    cp_async_commit();
    float s[kRowBlocks][kKeys / 8][4];
    clear(s);
    multiply<kHeadDim, Stored::row_depth, Stored::row_depth>(s, q_tile, warp_row, k_tile, 0);
    cp_async_wait<0>();
    __syncthreads();  // these values are here, the keys have been read
    if (key + kKeys < end_key) k.template start<kKeys>(k_tile, sizes.key_time - key - kKeys);
    cp_async_commit();
    if (is_partial(mask.position(first), bounds, key, kKeys))
      mask_by_query(
          s, [=](int i, int j) { return lower[warp_row + i + j]; }, mask.position(first) + warp_row, key);
    online_softmax(s, sizes.scale * kLog2E, state);
    multiply_fragment(state.output, s, v_tile, scratch);
  }
  finish_rows<T, kHeadDim, kRowBlocks>(args, batch, head, first + warp_row, q_tile, warp_row, state);
}

template <class T, int kHeadDim>
cudaError_t launch_forward(const AttentionForwardArguments<T>& args, cudaStream_t stream) {
  using Tiling = ForwardTiling<T, kHeadDim>;
  const auto kernel = &attention_forward_kernel<T, kHeadDim>;
  const cudaError_t status = device_allow_dynamic_shared(kernel, Tiling::kSharedBytes);
  if (status != cudaSuccess) return status;
  const AttentionSizes& sizes = args.sizes;
  const unsigned tiles = static_cast<unsigned>((sizes.query_time + Tiling::kQueries - 1) / Tiling::kQueries);
  const unsigned heads = static_cast<unsigned>(sizes.batch) * static_cast<unsigned>(sizes.heads_q);
  return device_launch(LaunchConfig(dim3(heads, tiles), Tiling::kThreads, Tiling::kSharedBytes, stream),
                       kernel, args);
}

template <class T>
cudaError_t attention_forward(const AttentionForwardArguments<T>& args, cudaStream_t stream) {
  if constexpr (sizeof(T) == sizeof(bf16))
    if (has_attention_forward_sm90(args.sizes.head_dim)) return attention_forward_sm90(args, stream);
  switch (args.sizes.head_dim) {
    case 32:
      return launch_forward<T, 32>(args, stream);
    case 64:
      return launch_forward<T, 64>(args, stream);
    case 96:
      return launch_forward<T, 96>(args, stream);
    case 128:
      return launch_forward<T, 128>(args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

template cudaError_t attention_forward(const AttentionForwardArguments<float>&, cudaStream_t);
template cudaError_t attention_forward(const AttentionForwardArguments<bf16>&, cudaStream_t);

}  // namespace polar::kernels
