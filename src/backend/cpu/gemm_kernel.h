// The inner kernel of all matrix products: a tile of c (kTileRows x two vectors) stays in registers while a
// block of k passes by. The packed operands it reads are made in gemm_pack.h.
//
// Every element of c is one chain of multiply-adds over the k of a block, in order, in a lane of its own;
// blocks of k are cut by k alone. The bits of an element therefore depend on its row of a, its column of b
// and k, and on nothing else: not on the size of c, on how it is cut, or on the thread that computes it.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "backend/cpu/simd.h"

namespace polar::cpu {

#if defined(__AVX512F__)
constexpr int kTileRows = 14;  // 28 sums, 2 vectors of b and one of a in 32 registers
#else
constexpr int kTileRows = 6;  // 12 + 2 + 1 in 16 registers
#endif

template <class T>
constexpr int64_t kTileColumns = 2 * Simd<T>::kLanes;
constexpr int64_t kBlockDepth = 256;  // k of a block: in f32 a panel of b (32 KiB) stays in the L1 cache

// Where element (row r of the tile, k) of packed a lies: a matrix whose rows run along k keeps its rows, one
// whose rows run across keeps tile rows side by side. Constant steps let every address be base + constant.
enum class PackedA { rows, columns };
constexpr int64_t kPackedRow = kBlockDepth + 16;  // not a power of two: rows in different sets of the cache
template <PackedA kLayout>
constexpr int64_t kRowStep = kLayout == PackedA::rows ? kPackedRow : 1;
template <PackedA kLayout>
constexpr int64_t kDepthStep = kLayout == PackedA::rows ? 1 : kTileRows;

// c = a b + beta * addend for one tile. addend may be c itself and is not read when beta is 0.
template <class T>
struct Tile {
  int64_t depth;
  const T* a;
  const T* b;  // panel (depth, kTileColumns)
  T beta;
  const T* addend;
  int64_t addend_stride;
  T* c;
  int64_t c_stride;
};

template <class T, PackedA kLayout, int kRows>
void multiply_tile(const Tile<T>& tile) {
  constexpr int64_t lanes = Simd<T>::kLanes;
  Vector<T> sums[kRows][2] = {};
  const T* a = tile.a;
  const T* b = tile.b;
  T* const c = tile.c;
  const T beta = tile.beta;
  const int64_t c_stride = tile.c_stride;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {  // the tile of c is on its way while the sums are made
    __builtin_prefetch(c + r * c_stride, 1);
    __builtin_prefetch(c + r * c_stride + lanes, 1);
  }
  for (int64_t k = 0; k < tile.depth; ++k) {
    const Vector<T> b0 = load(b), b1 = load(b + lanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vector<T> left = broadcast(a[r * kRowStep<kLayout>]);
      sums[r][0] += left * b0;
      sums[r][1] += left * b1;
    }
    a += kDepthStep<kLayout>;
    b += 2 * lanes;
  }
  if (beta != T(0)) {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const T* addend = tile.addend + r * tile.addend_stride;
      sums[r][0] += beta * load(addend);
      sums[r][1] += beta * load(addend + lanes);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    store(c + r * c_stride, sums[r][0]);
    store(c + r * c_stride + lanes, sums[r][1]);
  }
}

// multiply_tile for 1 to kTileRows rows, by their number less one.
template <class T, PackedA kLayout>
constexpr auto kTileKernels = []<int... kIndex>(std::integer_sequence<int, kIndex...>) {
  return std::array<void (*)(const Tile<T>&), kTileRows>{multiply_tile<T, kLayout, kIndex + 1>...};
}
(std::make_integer_sequence<int, kTileRows>{});

}  // namespace polar::cpu
