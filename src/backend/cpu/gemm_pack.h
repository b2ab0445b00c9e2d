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

// Elements from one packed block to the next; the odd ones keep blocks out of each other's cache sets.
constexpr int64_t kPackedRows = (kBlockDepth + 1) * kTileRows;
template <class T>
constexpr int64_t kPanel = (kBlockDepth + 1) * kTileColumns<T>;

// The first `rows` x `depth` of a transposed a, in blocks of kTileRows rows.
template <class T>
void pack_a(const Operand<T>& a, int64_t rows, int64_t depth, T* to) {
  const int64_t blocks = rows / kTileRows, rest = rows % kTileRows;
  for (int64_t k = 0; k < depth; ++k, to += kTileRows) {
    const T* from = a.data + k * a.stride;
    for (int64_t i = 0; i < blocks; ++i)  // of constant size: a few moves
      std::memcpy(to + i * kPackedRows, from + i * kTileRows, kTileRows * sizeof(T));
    std::copy_n(from + blocks * kTileRows, rest, to + blocks * kPackedRows);
  }
}

// One vector's width of a panel from a transposed b: squares of registers are turned.
template <class T>
void pack_turned(const Operand<T>& b, int64_t depth, T alpha, T* to) {
  constexpr int64_t lanes = Simd<T>::kLanes;
  int64_t k = 0;
  for (; k + lanes <= depth; k += lanes) {
    Vector<T> square[lanes];
#pragma GCC unroll 16
    for (int64_t i = 0; i < lanes; ++i) square[i] = load(b.data + i * b.stride + k) * alpha;
    transpose_square<T>(square);
#pragma GCC unroll 16
    for (int64_t i = 0; i < lanes; ++i) store(to + (k + i) * kTileColumns<T>, square[i]);
  }
  for (; k < depth; ++k)
    for (int64_t i = 0; i < lanes; ++i) to[k * kTileColumns<T> + i] = alpha * b.data[i * b.stride + k];
}

// The same for the last `cols` columns, fewer than a vector has lanes: zeros beyond them.
template <class T>
void pack_last(const Operand<T>& b, int64_t depth, int64_t cols, T alpha, T* to) {
  const int64_t k_step = b.transposed ? 1 : b.stride, col_step = b.transposed ? b.stride : 1;
  for (int64_t k = 0; k < depth; ++k, to += kTileColumns<T>)
    for (int64_t j = 0; j < Simd<T>::kLanes; ++j)
      to[j] = j < cols ? alpha * b.data[k * k_step + j * col_step] : T(0);
}

// alpha times the first `depth` x `cols` of b in panels (depth, kTileColumns), the last one filled up.
template <class T>
void pack_b(const Operand<T>& b, int64_t depth, int64_t cols, T alpha, T* to) {
  constexpr int64_t lanes = Simd<T>::kLanes;
  const int64_t whole = cols / lanes * lanes;
  const auto place = [to](int64_t col) {
    return to + col / kTileColumns<T> * kPanel<T> + col % kTileColumns<T>;
  };
  if (b.transposed) {
    for (int64_t j = 0; j < whole; j += lanes) pack_turned(b.from(0, j), depth, alpha, place(j));
  } else {
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t j = 0; j < whole; j += lanes)
        store(place(j) + k * kTileColumns<T>, load(b.data + k * b.stride + j) * alpha);
  }
  for (int64_t j = whole; j < cols || j % kTileColumns<T> != 0; j += lanes)
    pack_last(b.from(0, std::min(j, cols)), depth, cols - j, alpha, place(j));
}

}  // namespace polar::cpu
