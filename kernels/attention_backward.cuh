// What the kernels of attention's backward pass share, portable and Hopper's: what they know of every query,
// where it stands in the workspace, and which queries a tile of keys meets.
#pragma once

#include "attention.h"
#include "attention_mask.cuh"

namespace polar::kernels {

constexpr float kLog2E = 1.44269504088896341f;
constexpr int kLargestTile = 128;     // of queries, in all kernels
constexpr int kHopperQueryTile = 64;  // of queries, in Hopper's kernel 2

// What kernels 2 and 3 need to know of a query besides its rows: lse * log2(e), delta, lower of the mask (an
// int's bits). 16 queries a group, first all their lse, then delta, then lower: tiles are whole groups.
constexpr int kTerms = 3, kGroup = 16;
enum Term { kTermLse = 0, kTermDelta = kGroup, kTermLower = 2 * kGroup };
__host__ __device__ constexpr int term_of(int query) {
  return query / kGroup * kTerms * kGroup + query % kGroup;
}

// The workspace: the terms of each (batch, head), the queries of a sequence rounded up to whole tiles; and of
// each batch the LowerBounds of kernel 2's tiles of queries.
struct BackwardWorkspace {
  int padded_time;
  float* terms;         // (B, Hq, padded_time * kTerms)
  LowerBounds* bounds;  // (B, padded_time / kGroup): tile i at index i

  __host__ __device__ BackwardWorkspace(const AttentionSizes& sizes, void* memory)
      : padded_time((sizes.query_time + kLargestTile - 1) / kLargestTile * kLargestTile),
        terms(static_cast<float*>(memory)),
        bounds(reinterpret_cast<LowerBounds*>(terms + count(sizes) * sizes.heads_q * kTerms)) {}
  __host__ __device__ int64_t count(const AttentionSizes& sizes) const {
    return static_cast<int64_t>(sizes.batch) * padded_time;
  }
  __host__ __device__ int64_t bytes(const AttentionSizes& sizes) const {
    return count(sizes) * sizes.heads_q * kTerms * static_cast<int64_t>(sizeof(float)) +
           count(sizes) / kGroup * static_cast<int64_t>(sizeof(LowerBounds));
  }
  __device__ float* terms_of(const AttentionSizes& sizes, int batch, int head) const {
    return terms + (static_cast<int64_t>(batch) * sizes.heads_q + head) * padded_time * kTerms;
  }
  __device__ LowerBounds* bounds_of(int batch) const { return bounds + batch * (padded_time / kGroup); }
};

// The tiles of queries that a tile of keys [key, last_key] has to visit, head after head of the group: those
// where `member` < group.
struct QueryWalk {
  const LowerBounds* bounds;  // of the tiles of this sequence
  int last_key, begin, end;   // tiles
  int member = 0, tile;

  __device__ __forceinline__ QueryWalk(const AttentionSizes& sizes, const LowerBounds* bounds_,
                                       int tile_queries, int key, int last_key_)
      : bounds(bounds_), last_key(last_key_) {
    const int end_query =
        sizes.window > 0 ? min(last_key + sizes.window, sizes.query_time) : sizes.query_time;
    end = (end_query + tile_queries - 1) / tile_queries;
    begin = visible_from(key / tile_queries);
    tile = begin;
    if (begin == end) member = sizes.heads_q / sizes.heads_kv;  // no query sees these keys
  }
  __device__ __forceinline__ int visible_from(int from) const {
    while (from < end && bounds[from].least > last_key) ++from;
    return from;
  }
  __device__ __forceinline__ void next() {
    tile = visible_from(tile + 1);
    if (tile == end) ++member, tile = begin;
  }
};

}  // namespace polar::kernels
