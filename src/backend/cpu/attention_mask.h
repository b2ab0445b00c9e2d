// Which keys the queries of one tile see: causal, sliding window, documents. Shared by attention's forward
// and backward pass.
#pragma once

#include <algorithm>

#include "backend/cpu/attention_tile.h"
#include "ops/ops.h"

namespace polar::cpu::attention {

// Stands for minus infinity in scores: finite, so that differences of two masked scores are numbers.
template <class T>
constexpr T kMasked = std::numeric_limits<T>::lowest() / 4;

// Up to kTileQueries consecutive queries of one sequence. Query i sees the keys [lower[i], position[i]].
// Lanes behind the last query repeat it.
template <class T>
struct QueryTile {
  using Int = typename Simd<T>::Int;
  alignas(kVectorBytes) Int position[kTileQueries];
  alignas(kVectorBytes) Int lower[kTileQueries];
  int64_t first, count;  // queries of the sequence
  int64_t lanes;         // count rounded up to whole vectors
  int64_t first_key;     // keys that at least one query sees: [first_key, end_key)
  int64_t end_key;
  int64_t greatest_lower;
};

// The columns of a tile that see any of its keys, in whole vectors, and whether some of them see only a part.
struct ActiveQueries {
  int64_t begin, end;
  bool partial;
};

template <class T>
QueryTile<T> make_query_tile(const AttentionShape& shape, const Tensor& document_starts, int64_t batch,
                             int64_t first) {
  using Int = typename Simd<T>::Int;
  constexpr int64_t vector = Simd<T>::kLanes;
  QueryTile<T> tile;
  tile.first = first;
  tile.count = std::min(kTileQueries, shape.query_time - first);
  tile.lanes = (tile.count + vector - 1) / vector * vector;
  const int32_t* starts =
      document_starts ? document_starts.as<int32_t>() + batch * shape.query_time + first : nullptr;
  tile.first_key = shape.key_time;
  tile.greatest_lower = 0;
  for (int64_t i = 0; i < tile.lanes; ++i) {
    const int64_t query = std::min(i, tile.count - 1);
    const int64_t position = shape.key_time - shape.query_time + first + query;
    int64_t lower = starts != nullptr ? starts[query] : 0;
    if (shape.window > 0) lower = std::max(lower, position - shape.window + 1);
    tile.position[i] = static_cast<Int>(position);
    tile.lower[i] = static_cast<Int>(lower);
    tile.first_key = std::min(tile.first_key, lower);
    tile.greatest_lower = std::max(tile.greatest_lower, lower);
  }
  tile.end_key = int64_t{tile.position[tile.count - 1]} + 1;
  return tile;
}

// For the keys [key, key + keys). Only the causal border is used to leave out columns: it is the one that
// every sequence crosses.
template <class T>
ActiveQueries active_queries(const QueryTile<T>& tile, int64_t key, int64_t keys) {
  const int64_t hidden = std::max<int64_t>(0, key - tile.position[0]);  // queries before the first key
  const int64_t begin = hidden / Simd<T>::kLanes * Simd<T>::kLanes;
  return {begin, tile.lanes, key + keys - 1 > tile.position[begin] || key < tile.greatest_lower};
}

// Overwrites the scores that the mask hides.
template <class T>
void mask_scores(const QueryTile<T>& tile, ActiveQueries active, int64_t key, int64_t keys, Panel<T> scores) {
  using IntVector = typename Simd<T>::IntVector;
  for (int64_t column = active.begin; column < active.end; column += Simd<T>::kLanes) {
    IntVector position, lower;
    std::memcpy(&position, tile.position + column, sizeof(position));
    std::memcpy(&lower, tile.lower + column, sizeof(lower));
    for (int64_t j = 0; j < keys; ++j) {
      const IntVector index = IntVector{} + static_cast<typename Simd<T>::Int>(key + j);
      T* at = scores.row(j) + column;
      store(at, (index <= position) & (index >= lower) ? load(at) : broadcast(kMasked<T>));
    }
  }
}

}  // namespace polar::cpu::attention
