// The inner kernel of all matrix products: a tile of c (kTileRows x two vectors) stays in registers while a
// block of k passes by. b comes packed, a as it is or packed (gemm_pack.h).
//
// Every element of c is one chain of multiply-adds over the k of a block, in order, in a lane of its own;
// blocks of k are cut by k alone. The bits of an element therefore depend on its row of a, its column of b
// and k, and on nothing else: not on the size of c, on how it is cut, or on the thread that computes it. The
// same holds for the other kernel (gemm_split.h), which large fp32 products take on CPUs with matrix units.
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
// k of a block: long enough that the tile of c is seldom fetched, short enough that the rows of a for a tile
// stay in the L1 cache and some twenty panels of b in L2.
constexpr int64_t kBlockDepth = 384;

// Where element (row r of the tile, k) of a lies: in the matrix itself, whose rows run along k, or packed in
// steps of kTileRows elements, when its rows run across.
enum class LayoutOfA { rows, packed };

// c = a b + beta * addend for one tile. addend may be c itself and is not read when beta is 0.
template <class T>
struct Tile {
  int64_t depth = 0;
  const T* a = nullptr;
  int64_t a_stride = 0;  // of LayoutOfA::rows
  const T* b = nullptr;  // panel (depth, kTileColumns)
  T beta = T(0);
  const T* addend = nullptr;
  int64_t addend_stride = 0;
  T* c = nullptr;
  int64_t c_stride = 0;
};

template <class T, LayoutOfA kLayout, int kRows>
void multiply_tile(const Tile<T>& tile) {
  constexpr int64_t lanes = Simd<T>::kLanes;
  Vector<T> sums[kRows][2] = {};
  const T* a = tile.a;
  const T* b = tile.b;
  T* const c = tile.c;
  const int64_t a_stride = tile.a_stride, c_stride = tile.c_stride;
  const T beta = tile.beta;
  // Three rows from a pointer, the reach of an addressing mode: so all pointers stay in registers.
  constexpr int kGroups = (kRows + 2) / 3;
  const T* groups[kGroups];
#pragma GCC unroll 16
  for (int g = 0; g < kGroups; ++g) groups[g] = a + 3 * g * a_stride;
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {  // the tile of c is on its way while the sums are made
    __builtin_prefetch(c + r * c_stride, 1);
    __builtin_prefetch(c + r * c_stride + lanes, 1);
  }
  for (int64_t k = 0; k < tile.depth; ++k, b += 2 * lanes) {
    const Vector<T> b0 = load(b), b1 = load(b + lanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Vector<T> left = broadcast(kLayout == LayoutOfA::rows ? groups[r / 3][r % 3 * a_stride] : a[r]);
      sums[r][0] += left * b0;
      sums[r][1] += left * b1;
    }
    a += kTileRows;
#pragma GCC unroll 16
    for (int g = 0; g < kGroups; ++g) ++groups[g];
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
template <class T, LayoutOfA kLayout>
constexpr auto kTileKernels = []<int... kIndex>(std::integer_sequence<int, kIndex...>) {
  return std::array<void (*)(const Tile<T>&), kTileRows>{multiply_tile<T, kLayout, kIndex + 1>...};
}
(std::make_integer_sequence<int, kTileRows>{});

}  // namespace polar::cpu
