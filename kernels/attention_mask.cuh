// Which keys a query sees: the causal border, a sliding window, documents. Shared by attention's forward and
// backward kernels. Positions count from the first key of the sequence; query i sits at offset + i.
#pragma once

#include "attention.h"
#include "tile.cuh"

namespace polar::kernels {

struct AttentionMask {
  int query_time, offset, window;
  const int32_t* document_starts;  // of this sequence, or null

  __device__ __forceinline__ AttentionMask(const AttentionSizes& sizes, const int32_t* starts, int batch)
      : query_time(sizes.query_time),
        offset(sizes.key_time - sizes.query_time),
        window(sizes.window),
        document_starts(starts == nullptr ? nullptr
                                          : starts + static_cast<int64_t>(batch) * sizes.query_time) {}

  // A query sees the keys [lower(query), position(query)]. Queries behind the last one see what it sees.
  __device__ __forceinline__ int position(int query) const { return offset + query; }
  __device__ __forceinline__ int lower(int query) const {
    query = min(query, query_time - 1);
    const int document = document_starts == nullptr ? 0 : document_starts[query];
    return window > 0 ? max(document, position(query) - window + 1) : document;
  }
};

// The least and the greatest lower(query) of `kQueries` queries from `first` on; all lanes of a warp
// together.
struct LowerBounds {
  int least, greatest;
};
template <int kQueries>
__device__ __forceinline__ LowerBounds lower_bounds(const AttentionMask& mask, int first) {
  if (mask.document_starts == nullptr) return {mask.lower(first), mask.lower(first + kQueries - 1)};
  LowerBounds bounds{0x7fffffff, 0};
#pragma unroll
  for (int i = 0; i < kQueries; i += kWarpSize) {
    const int lower = mask.lower(first + min(i + lane_index(), kQueries - 1));
    bounds.least = min(bounds.least, lower);
    bounds.greatest = max(bounds.greatest, lower);
  }
#pragma unroll
  for (int other = kWarpSize / 2; other > 0; other /= 2) {
    bounds.least = min(bounds.least, __shfl_xor_sync(kFullWarp, bounds.least, other));
    bounds.greatest = max(bounds.greatest, __shfl_xor_sync(kFullWarp, bounds.greatest, other));
  }
  return bounds;
}

// Whether some query of a tile (its first query at `first_position`) does not see all keys [key, key + keys).
__device__ __forceinline__ bool is_partial(int first_position, LowerBounds bounds, int key, int keys) {
  return key + keys - 1 > first_position || key < bounds.greatest;
}

// Hides scores of a fragment whose rows are queries, the first at `position`, and whose columns are keys from
// `key` on. lower(i, j) is lower(query) of query i + j among these, from shared memory: i is a constant
// multiple of 8, j depends on the lane and stays in the group of 16 that i is in.
template <int kRowBlocks, int kColumnBlocks, class Lower>
__device__ __forceinline__ void mask_by_query(float (&s)[kRowBlocks][kColumnBlocks][4], const Lower& lower,
                                              int position, int key) {
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int row = 16 * m + fragment_row(2 * i);
      const int least = lower(16 * m, fragment_row(2 * i)) - key, greatest = position + row - key;
#pragma unroll
      for (int n = 0; n < kColumnBlocks; ++n)
#pragma unroll
        for (int e = 2 * i; e < 2 * i + 2; ++e) {
          const int column = 8 * n + fragment_column(e);
          if (column > greatest || column < least) s[m][n][e] = -INFINITY;
        }
    }
}

// The same where rows are keys and columns are queries.
template <int kRowBlocks, int kColumnBlocks, class Lower>
__device__ __forceinline__ void mask_by_key(float (&s)[kRowBlocks][kColumnBlocks][4], const Lower& lower,
                                            int position, int key) {
#pragma unroll
  for (int n = 0; n < kColumnBlocks; ++n)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int column = 8 * n + fragment_column(i);
      const int least = lower(8 * n, fragment_column(i)) - key, greatest = position + column - key;
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
        for (int e = i; e < 4; e += 2) {
          const int row = 16 * m + fragment_row(e);
          if (row > greatest || row < least) s[m][n][e] = -INFINITY;
        }
    }
}

}  // namespace polar::kernels
