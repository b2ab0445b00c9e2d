// Packing of the operands of a product into the order in which gemm_kernel.h reads them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "backend/cpu/gemm_kernel.h"

namespace polar::cpu {

// Element (i, j) of op(x) is data[i * stride + j], or data[j * stride + i] when transposed.
template <class T>
struct Operand {
  const T* data;
  int64_t stride;
  bool transposed;
  Operand from(int64_t row, int64_t col) const {
    return {data + (transposed ? col * stride + row : row * stride + col), stride, transposed};
  }
};

// The first `rows` x `depth` of a, in blocks of kTileRows rows that lie kPackedRow * kTileRows apart.
template <class T>
void pack_a(const Operand<T>& a, int64_t rows, int64_t depth, T* to) {
  if (!a.transposed) {
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(to + r * kPackedRow, a.data + r * a.stride, static_cast<size_t>(depth) * sizeof(T));
    return;
  }
  const int64_t whole = rows / kTileRows * kTileRows;
  for (int64_t k = 0; k < depth; ++k, to += kTileRows) {
    const T* from = a.data + k * a.stride;
    for (int64_t r = 0; r < whole; r += kTileRows)  // a constant size: a few moves
      std::memcpy(to + r * kPackedRow, from + r, kTileRows * sizeof(T));
    for (int64_t r = whole; r < rows; ++r) to[whole * kPackedRow + r - whole] = from[r];
  }
}

// Vectors of a panel that has fewer columns than lanes or that is read across: element by element.
template <class T>
void pack_lanes(const Operand<T>& b, int64_t depth, int64_t cols, T alpha, T* to) {
  constexpr int64_t lanes = Simd<T>::kLanes;
  const int64_t k_step = b.transposed ? 1 : b.stride, col_step = b.transposed ? b.stride : 1;
  for (int64_t k = 0; k < depth; ++k, to += kTileColumns<T>) {
    for (int64_t j = 0; j < cols; ++j) to[j] = alpha * b.data[k * k_step + j * col_step];
    std::fill(to + std::max<int64_t>(cols, 0), to + lanes, T(0));
  }
}

// One vector's width of a panel: `cols` columns of b (less than none: all zeros), `depth` deep.
template <class T>
void pack_vector(const Operand<T>& b, int64_t depth, int64_t cols, T alpha, T* to) {
  constexpr int64_t lanes = Simd<T>::kLanes;
  int64_t k = 0;
  if (cols >= lanes && !b.transposed)
    for (; k < depth; ++k) store(to + k * kTileColumns<T>, load(b.data + k * b.stride) * alpha);
  if (cols >= lanes && b.transposed)
    for (; k + lanes <= depth; k += lanes) {
      Vector<T> square[lanes];
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) square[i] = load(b.data + i * b.stride + k) * alpha;
      transpose_square<T>(square);
#pragma GCC unroll 16
      for (int64_t i = 0; i < lanes; ++i) store(to + (k + i) * kTileColumns<T>, square[i]);
    }
  pack_lanes(b.from(k, 0), depth - k, std::min(cols, lanes), alpha, to + k * kTileColumns<T>);
}

// alpha times the first `depth` x `cols` of b in panels (depth, kTileColumns) that lie kBlockDepth *
// kTileColumns apart; columns beyond the last are 0.
template <class T>
void pack_b(const Operand<T>& b, int64_t depth, int64_t cols, T alpha, T* to) {
  constexpr int64_t lanes = Simd<T>::kLanes;
  for (int64_t j = 0; j < cols; j += kTileColumns<T>, to += kBlockDepth * kTileColumns<T>) {
    if (!b.transposed && cols - j >= kTileColumns<T>) {
      for (int64_t k = 0; k < depth; ++k) {
        store(to + k * kTileColumns<T>, load(b.data + k * b.stride + j) * alpha);
        store(to + k * kTileColumns<T> + lanes, load(b.data + k * b.stride + j + lanes) * alpha);
      }
      continue;
    }
    pack_vector(b.from(0, j), depth, cols - j, alpha, to);
    pack_vector(b.from(0, std::min(j + lanes, cols)), depth, cols - j - lanes, alpha, to + lanes);
  }
}

}  // namespace polar::cpu
