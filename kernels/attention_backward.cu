// Attention, backward: dq, dk, dv (`=`) from q, k, v, output, doutput and lse. Layouts as in the forward
// pass; T = float or bf16, everything between is float.
//
// Probabilities are recomputed tile by tile from lse (Dao et al. 2022). With P = softmax, dP = dO V^T and
// delta = rowsum(dO * O):   dS = P (dP - delta),   dV = P^T dO,   dK = scale dS^T Q,   dQ = scale dS K.
// Three kernels, each sum in one fixed order, no atomics:
//   1. delta and lse in units of log2, into the workspace;
//   2. a block owns a tile of keys of one kv head and walks along the heads of its group, one after the
//   other,
//      and along the queries that see any of its keys: dk, dv. It computes the transposes of S and dP, whose
//      fragments are at once the left operands of the products that follow;
//   3. a block owns a tile of queries of one head and walks along its keys: dq.
// S and dP are computed twice: that is the price of owning every output.
//
// Floor: 14 D FLOPs for every (query, key) that the mask shows and every head; bytes: q, k, v, output,
// doutput read, dq, dk, dv written once, while a sequence's part stays in the L2 cache.
#include "attention_backward.cuh"

namespace polar::kernels {

// Starts to copy the terms of kQueries queries.
template <int kQueries>
__device__ __forceinline__ void start_terms(float* to, const float* from) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < kQueries * kTerms / 4) cp_async16(to + 4 * i, from + 4 * i);
}

// Rows of a block are 16 * kRowBlocks a warp. With two blocks of rows each fragment that is read from shared
// memory serves twice; what holds it back are registers: the gradients and two tiles of scores.
// Everything stays below the 99 KiB of shared memory that every card has.

// Kernel 2: rows are keys, columns queries.
template <class T, int kHeadDim>
struct KeyTiling {
  static constexpr bool kSingle = sizeof(T) == sizeof(float);
  static constexpr int kWarps = kSingle ? 2 : 4, kThreads = kWarps * kWarpSize;
  static constexpr int kRowBlocks = !kSingle && kHeadDim < 96 ? 2 : 1;
  static constexpr int kKeys = 16 * kRowBlocks * kWarps;
  static constexpr int kQueries = kSingle ? (kHeadDim < 96 ? 32 : 16) : (kHeadDim < 96 ? 32 : 64);
  static constexpr int kScratch = kSingle ? fragment_scratch(kRowBlocks, kQueries / 8) : 0;  // floats a warp
  static constexpr size_t kSharedBytes = sizeof(T) * kHeadDim * (2 * kKeys + 4 * kQueries) +
                                         sizeof(float) * (2 * kTerms * kQueries + kScratch * kWarps);
};

// Kernel 3: rows are queries, columns keys.
template <class T, int kHeadDim>
struct QueryTiling {
  static constexpr bool kSingle = sizeof(T) == sizeof(float);
  // Two blocks of 16 rows a warp read the keys half as often; at width 128 their dq leaves too few registers.
  static constexpr bool kWide = !kSingle && kHeadDim == 128;
  static constexpr int kWarps = kSingle ? 2 : (kWide ? 8 : 4), kThreads = kWarps * kWarpSize;
  static constexpr int kRowBlocks = kSingle || kWide ? 1 : 2;
  static constexpr int kQueries = 16 * kRowBlocks * kWarps;
  static constexpr int kKeys = kSingle ? (kHeadDim < 96 ? 32 : 16)
                                       : (kHeadDim < 64   ? 64
                                          : kHeadDim < 96 ? 48
                                                          : 32);
  static constexpr int kScratch = kSingle ? fragment_scratch(kRowBlocks, kKeys / 8) : 0;
  static constexpr size_t kSharedBytes = sizeof(T) * kHeadDim * (2 * kQueries + 4 * kKeys) +
                                         sizeof(float) * (kTerms * kQueries + kScratch * kWarps);
};

// --- 1. terms of the rows ---

// A block takes kQueries queries of one head, 4 lanes a query. Queries behind the last one get lse =
// infinity, so that their probabilities are 0, and delta = 0.
template <class T, int kHeadDim, int kQueries>
__global__ void __launch_bounds__(4 * kQueries)
    attention_backward_terms_kernel(const AttentionBackwardArguments<T> args) {
  const AttentionSizes& sizes = args.sizes;
  const BackwardWorkspace workspace(sizes, args.workspace);
  const int tile = static_cast<int>(blockIdx.y), head = static_cast<int>(blockIdx.x) % sizes.heads_q;
  const int batch = static_cast<int>(blockIdx.x) / sizes.heads_q;
  const int query = tile * kQueries + static_cast<int>(threadIdx.x) / 4,
            part = static_cast<int>(threadIdx.x) % 4;
  const bool valid = query < sizes.query_time;
  float delta = 0.0f;
  if (valid) {
    const int64_t row = static_cast<int64_t>(batch) * sizes.query_time + query;
    const T* output = args.output.data + row * args.output.stride + head * kHeadDim;
    const T* doutput = args.doutput.data + row * args.doutput.stride + head * kHeadDim;
#pragma unroll
    for (int column = part * Vector<T>::kCount; column < kHeadDim; column += 4 * Vector<T>::kCount) {
      const Vector<T> a = load_vector(output + column), b = load_vector(doutput + column);
#pragma unroll
      for (int i = 0; i < Vector<T>::kCount; ++i) delta = fmaf(a.value[i], b.value[i], delta);
    }
  }
  delta = warp_reduce<4>(delta, Sum{});
  const AttentionMask mask(sizes, args.document_starts, batch);
  if (part == 0) {
    const int64_t head_row = static_cast<int64_t>(batch) * sizes.heads_q + head;
    const float lse = valid ? args.lse[head_row * sizes.query_time + query] : -INFINITY;
    float* to = workspace.terms_of(sizes, batch, head) + term_of(query);
    to[kTermLse] = lse == -INFINITY ? INFINITY : lse * kLog2E;
    to[kTermDelta] = delta;
    to[kTermLower] = __int_as_float(mask.lower(query));
  }
  if (head == 0 && threadIdx.x < kWarpSize) {
    const LowerBounds bounds = lower_bounds<kQueries>(mask, tile * kQueries);
    if (threadIdx.x == 0) workspace.bounds_of(batch)[tile] = bounds;
  }
}

// --- 2. dk, dv ---

// lower of the mask's queries, as mask_by_key and mask_by_query ask for it.
struct TermLower {
  const float* terms;
  __device__ __forceinline__ int operator()(int query, int in_group) const {
    return __float_as_int(terms[term_of(query) + kTermLower + in_group]);
  }
};

// s, dp: keys x queries of one pair of tiles, scores and dO V^T. On return s holds P, dp holds dS / scale.
// terms: those of the first query.
template <int kRowBlocks, int kColumnBlocks>
__device__ __forceinline__ void softmax_backward_by_key(float (&s)[kRowBlocks][kColumnBlocks][4],
                                                        float (&dp)[kRowBlocks][kColumnBlocks][4],
                                                        float scale_log2, const float* terms) {
#pragma unroll
  for (int n = 0; n < kColumnBlocks; ++n) {
    const float* column = terms + fragment_column(0) + term_of(8 * n);
    const float2 lse = *reinterpret_cast<const float2*>(column + kTermLse);
    const float2 delta = *reinterpret_cast<const float2*>(column + kTermDelta);
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        s[m][n][e] = ex2(fmaf(s[m][n][e], scale_log2, e % 2 == 0 ? -lse.x : -lse.y));
        dp[m][n][e] = s[m][n][e] * (dp[m][n][e] - (e % 2 == 0 ? delta.x : delta.y));
      }
  }
}

template <class T, int kHeadDim, int kRowBlocks>
__device__ __forceinline__ void write_gradient(const AttentionRows<T>& to, int64_t row, int column, int valid,
                                               SharedTile<T, kHeadDim> tile, int tile_row, float factor,
                                               float (&c)[kRowBlocks][kHeadDim / 8][4]) {
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) c[m][n][e] *= factor;
  store_fragment(tile, tile_row, 0, c);
  __syncwarp();
  copy_out<16 * kRowBlocks>(to.data + row * to.stride + column, to.stride, tile, tile_row, valid);
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(KeyTiling<T, kHeadDim>::kThreads)
    attention_backward_keys_kernel(const AttentionBackwardArguments<T> args) {
  using Tiling = KeyTiling<T, kHeadDim>;
  using Tile = SharedTile<T, kHeadDim>;
  constexpr int kKeys = Tiling::kKeys, kQueries = Tiling::kQueries, kRowBlocks = Tiling::kRowBlocks;
  DEVICE_DYNAMIC_SHARED(shared);
  const Tile k_tile{reinterpret_cast<T*>(shared)}, v_tile{k_tile.data + kKeys * kHeadDim};
  T* const queries = v_tile.data + kKeys * kHeadDim;  // two buffers of q, dO
  float* const query_terms =
      reinterpret_cast<float*>(queries + 4 * kQueries * kHeadDim);  // two of their terms
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize, warp_row = warp * 16 * kRowBlocks;
  float* const scratch = query_terms + 2 * kTerms * kQueries + warp * Tiling::kScratch;

  const AttentionSizes& sizes = args.sizes;
  const int group = sizes.heads_q / sizes.heads_kv;
  const int head_kv = static_cast<int>(blockIdx.x) % sizes.heads_kv;
  const int batch = static_cast<int>(blockIdx.x) / sizes.heads_kv;
  const int key = static_cast<int>(blockIdx.y) * kKeys;  // the first keys are seen by the most queries
  const int last_key = min(key + kKeys, sizes.key_time) - 1;
  const BackwardWorkspace workspace(sizes, args.workspace);
  const int64_t first_row = static_cast<int64_t>(batch) * sizes.query_time;

  QueryWalk walk(sizes, workspace.bounds_of(batch), kQueries, key, last_key);
  const auto start_queries = [&](int buffer) {
    const int head = head_kv * group + walk.member, query = walk.tile * kQueries;
    const int64_t row = first_row + query;
    const Tile q_tile{queries + 2 * buffer * kQueries * kHeadDim}, do_tile{q_tile.data + kQueries * kHeadDim};
    start_copy<kQueries, Tiling::kThreads>(q_tile, args.q.data + row * args.q.stride + head * kHeadDim,
                                           args.q.stride, sizes.query_time - query);
    start_copy<kQueries, Tiling::kThreads>(do_tile,
                                           args.doutput.data + row * args.doutput.stride + head * kHeadDim,
                                           args.doutput.stride, sizes.query_time - query);
    start_terms<kQueries>(query_terms + buffer * kTerms * kQueries,
                          workspace.terms_of(sizes, batch, head) + term_of(query));
    cp_async_commit();
  };

  float dk[kRowBlocks][kHeadDim / 8][4], dv[kRowBlocks][kHeadDim / 8][4];
  clear(dk);
  clear(dv);
  const int64_t key_row = static_cast<int64_t>(batch) * sizes.key_time + key;
  start_copy<kKeys, Tiling::kThreads>(k_tile, args.k.data + key_row * args.k.stride + head_kv * kHeadDim,
                                      args.k.stride, sizes.key_time - key);
  start_copy<kKeys, Tiling::kThreads>(v_tile, args.v.data + key_row * args.v.stride + head_kv * kHeadDim,
                                      args.v.stride, sizes.key_time - key);
  if (walk.member < group) start_queries(0);
  for (int buffer = 0; walk.member < group; buffer ^= 1) {
    const int tile = walk.tile;
    walk.next();
    cp_async_wait<0>();
    __syncthreads();  // these queries are here, the other buffer has been read
    if (walk.member < group) start_queries(buffer ^ 1);
    const Tile q_tile{queries + 2 * buffer * kQueries * kHeadDim}, do_tile{q_tile.data + kQueries * kHeadDim};
    float s[kRowBlocks][kQueries / 8][4], dp[kRowBlocks][kQueries / 8][4];
    clear(s);
    clear(dp);
    multiply<kHeadDim, Stored::row_depth, Stored::row_depth>(s, k_tile, warp_row, q_tile, 0);
    multiply<kHeadDim, Stored::row_depth, Stored::row_depth>(dp, v_tile, warp_row, do_tile, 0);
    const float* own_terms = query_terms + buffer * kTerms * kQueries;
    if (is_partial(tile * kQueries, walk.bounds[tile], key, kKeys))
      mask_by_key(s, TermLower{own_terms}, tile * kQueries, key + warp_row);
    softmax_backward_by_key(s, dp, sizes.scale * kLog2E, own_terms);
    multiply_fragment(dv, s, do_tile, scratch);
    multiply_fragment(dk, dp, q_tile, scratch);
  }
  const int valid = sizes.key_time - key - warp_row;
  write_gradient(args.dk, key_row + warp_row, head_kv * kHeadDim, valid, k_tile, warp_row, sizes.scale, dk);
  write_gradient(args.dv, key_row + warp_row, head_kv * kHeadDim, valid, v_tile, warp_row, 1.0f, dv);
}

// --- 3. dq ---

// The same as softmax_backward_by_key, rows being queries; s is consumed.
template <int kRowBlocks, int kColumnBlocks>
__device__ __forceinline__ void softmax_backward_by_query(float (&s)[kRowBlocks][kColumnBlocks][4],
                                                          float (&dp)[kRowBlocks][kColumnBlocks][4],
                                                          float scale_log2, const float* terms) {
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float* row = terms + fragment_row(2 * i) + term_of(16 * m);
      const float lse = row[kTermLse], delta = row[kTermDelta];
#pragma unroll
      for (int n = 0; n < kColumnBlocks; ++n)
#pragma unroll
        for (int e = 2 * i; e < 2 * i + 2; ++e)
          dp[m][n][e] = ex2(fmaf(s[m][n][e], scale_log2, -lse)) * (dp[m][n][e] - delta);
    }
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(QueryTiling<T, kHeadDim>::kThreads)
    attention_backward_queries_kernel(const AttentionBackwardArguments<T> args) {
  using Tiling = QueryTiling<T, kHeadDim>;
  using Tile = SharedTile<T, kHeadDim>;
  constexpr int kKeys = Tiling::kKeys, kQueries = Tiling::kQueries, kRowBlocks = Tiling::kRowBlocks;
  DEVICE_DYNAMIC_SHARED(shared);
  const Tile q_tile{reinterpret_cast<T*>(shared)}, do_tile{q_tile.data + kQueries * kHeadDim};
  T* const keys = do_tile.data + kQueries * kHeadDim;  // two buffers of k, v
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize, warp_row = warp * 16 * kRowBlocks;
  float* const query_terms = reinterpret_cast<float*>(keys + 4 * kKeys * kHeadDim);  // one of their terms
  float* const scratch = query_terms + kTerms * kQueries + warp * Tiling::kScratch;

  const AttentionSizes& sizes = args.sizes;
  const int head = static_cast<int>(blockIdx.x) % sizes.heads_q,
            batch = static_cast<int>(blockIdx.x) / sizes.heads_q;
  const int head_kv = head / (sizes.heads_q / sizes.heads_kv);
  const int first = static_cast<int>(gridDim.y - 1 - blockIdx.y) * kQueries;  // later queries see more keys
  const AttentionMask mask(sizes, args.document_starts, batch);
  const LowerBounds bounds = lower_bounds<kQueries>(mask, first);
  const int first_key = bounds.least / kKeys * kKeys;
  const int end_key = min(first + kQueries, sizes.query_time);

  const int64_t key_row = static_cast<int64_t>(batch) * sizes.key_time + first_key;
  using KeyCopy = RowCopy<T, kHeadDim, Tiling::kThreads>;
  KeyCopy k(args.k.data + key_row * args.k.stride + head_kv * kHeadDim, args.k.stride);
  KeyCopy v(args.v.data + key_row * args.v.stride + head_kv * kHeadDim, args.v.stride);
  const auto start_keys = [&](int buffer, int key) {
    const Tile k_tile{keys + 2 * buffer * kKeys * kHeadDim}, v_tile{k_tile.data + kKeys * kHeadDim};
    k.template start<kKeys>(k_tile, sizes.key_time - key);
    v.template start<kKeys>(v_tile, sizes.key_time - key);
    cp_async_commit();
  };

  float dq[kRowBlocks][kHeadDim / 8][4];
  clear(dq);
  const int64_t query_row = static_cast<int64_t>(batch) * sizes.query_time + first;
  start_copy<kQueries, Tiling::kThreads>(q_tile, args.q.data + query_row * args.q.stride + head * kHeadDim,
                                         args.q.stride, sizes.query_time - first);
  start_copy<kQueries, Tiling::kThreads>(
      do_tile, args.doutput.data + query_row * args.doutput.stride + head * kHeadDim, args.doutput.stride,
      sizes.query_time - first);
  const BackwardWorkspace workspace(sizes, args.workspace);
  start_terms<kQueries>(query_terms, workspace.terms_of(sizes, batch, head) + term_of(first));
  start_keys(first_key / kKeys & 1, first_key);
  for (int key = first_key; key < end_key; key += kKeys) {
    const int buffer = key / kKeys & 1;  // from the key: a register less than counting
    cp_async_wait<0>();
    __syncthreads();  // these keys are here, the other buffer has been read
    if (key + kKeys < end_key) start_keys(buffer ^ 1, key + kKeys);
    const Tile k_tile{keys + 2 * buffer * kKeys * kHeadDim}, v_tile{k_tile.data + kKeys * kHeadDim};
    float s[kRowBlocks][kKeys / 8][4], dp[kRowBlocks][kKeys / 8][4];
    clear(s);
    clear(dp);
    multiply<kHeadDim, Stored::row_depth, Stored::row_depth>(s, q_tile, warp_row, k_tile, 0);
    multiply<kHeadDim, Stored::row_depth, Stored::row_depth>(dp, do_tile, warp_row, v_tile, 0);
    const float* own_terms = query_terms + term_of(warp_row);
    if (is_partial(first, bounds, key, kKeys)) mask_by_query(s, TermLower{own_terms}, first + warp_row, key);
    softmax_backward_by_query(s, dp, sizes.scale * kLog2E, own_terms);
    multiply_fragment(dq, dp, k_tile, scratch);
  }
  write_gradient(args.dq, query_row + warp_row, head * kHeadDim, sizes.query_time - first - warp_row, q_tile,
                 warp_row, sizes.scale, dq);
}

// --- launchers ---

// kQueries: of a tile in kernel 2.
template <class T, int kHeadDim, int kQueries>
cudaError_t launch_terms(const AttentionBackwardArguments<T>& args, cudaStream_t stream) {
  const AttentionSizes& sizes = args.sizes;
  const int tiles = BackwardWorkspace(sizes, nullptr).padded_time / kQueries;
  const unsigned heads = static_cast<unsigned>(sizes.batch) * static_cast<unsigned>(sizes.heads_q);
  return device_launch(LaunchConfig(dim3(heads, static_cast<unsigned>(tiles)), 4 * kQueries, 0, stream),
                       &attention_backward_terms_kernel<T, kHeadDim, kQueries>, args);
}

template <class T, int kHeadDim>
cudaError_t launch_backward(const AttentionBackwardArguments<T>& args, cudaStream_t stream) {
  using Keys = KeyTiling<T, kHeadDim>;
  using Queries = QueryTiling<T, kHeadDim>;
  const AttentionSizes& sizes = args.sizes;
  const auto tiles = [](int count, int size) { return static_cast<unsigned>((count + size - 1) / size); };
  const unsigned heads_q = static_cast<unsigned>(sizes.batch) * static_cast<unsigned>(sizes.heads_q);
  const unsigned heads_kv = static_cast<unsigned>(sizes.batch) * static_cast<unsigned>(sizes.heads_kv);

  if constexpr ((kHeadDim == 64 || kHeadDim == 128) && sizeof(T) == sizeof(bf16))
    if (has_attention_backward_sm90(kHeadDim)) {
      const cudaError_t status = launch_terms<T, kHeadDim, kHopperQueryTile>(args, stream);
      return status == cudaSuccess ? attention_backward_sm90(args, stream) : status;
    }
  cudaError_t status = launch_terms<T, kHeadDim, Keys::kQueries>(args, stream);
  if (status != cudaSuccess) return status;

  const auto keys_kernel = &attention_backward_keys_kernel<T, kHeadDim>;
  status = device_allow_dynamic_shared(keys_kernel, Keys::kSharedBytes);
  if (status != cudaSuccess) return status;
  status = device_launch(LaunchConfig(dim3(heads_kv, tiles(sizes.key_time, Keys::kKeys)), Keys::kThreads,
                                      Keys::kSharedBytes, stream),
                         keys_kernel, args);
  if (status != cudaSuccess) return status;

  const auto queries_kernel = &attention_backward_queries_kernel<T, kHeadDim>;
  status = device_allow_dynamic_shared(queries_kernel, Queries::kSharedBytes);
  if (status != cudaSuccess) return status;
  return device_launch(LaunchConfig(dim3(heads_q, tiles(sizes.query_time, Queries::kQueries)),
                                    Queries::kThreads, Queries::kSharedBytes, stream),
                       queries_kernel, args);
}

template <class T>
cudaError_t attention_backward(const AttentionBackwardArguments<T>& args, cudaStream_t stream) {
  if (args.sizes.query_time != args.sizes.key_time) return cudaErrorInvalidValue;
  switch (args.sizes.head_dim) {
    case 32:
      return launch_backward<T, 32>(args, stream);
    case 64:
      return launch_backward<T, 64>(args, stream);
    case 96:
      return launch_backward<T, 96>(args, stream);
    case 128:
      return launch_backward<T, 128>(args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

size_t attention_backward_workspace(const AttentionSizes& sizes) {
  return static_cast<size_t>(BackwardWorkspace(sizes, nullptr).bytes(sizes));
}

template cudaError_t attention_backward(const AttentionBackwardArguments<float>&, cudaStream_t);
template cudaError_t attention_backward(const AttentionBackwardArguments<bf16>&, cudaStream_t);

}  // namespace polar::kernels
