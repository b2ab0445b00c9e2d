// The arithmetic of one attention tile: vectors, 2^x, transposition, and products of small panels held in
// registers. A tile is kTileKeys keys by kTileQueries queries, stored key by key: a vector runs along the
// queries, so that softmax needs no horizontal reduction.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <limits>

#include "backend/cpu/simd.h"

namespace polar::cpu::attention {

#if defined(__AVX512F__)
constexpr int kAccumulators = 16;  // of 32 registers: enough to hide the latency of two FMA units
#else
constexpr int kAccumulators = 8;  // of 16 registers
#endif

constexpr int64_t kTileQueries = 64;
constexpr int64_t kTileKeys = 32;     // with D = 64 in f32 all of a tile's panels fit into 48 KiB of L1
constexpr int64_t kMaxHeadDim = 256;  // bounds the scratch space on the stack

// 2^x for x <= 127 (1023 for double); exactly 0 below -125 (-1021). The fraction f in [-1/2, 1/2] goes
// through the Taylor polynomial of 2^f, whose remainder is below half a unit in the last place (5e-9 in
// float, 4e-18 in double); the whole part is added to the exponent.
template <class T>
inline Vector<T> exp2(Vector<T> x) {
  constexpr bool is_float = sizeof(T) == 4;
  constexpr int degree = is_float ? 7 : 13;
  constexpr int mantissa_bits = std::numeric_limits<T>::digits - 1;
  constexpr T smallest = is_float ? T(-125) : T(-1021);
  constexpr T shift = is_float ? T(0x1.8p23) : T(0x1.8p52);  // adding it rounds to whole numbers
  constexpr auto coefficients = [] {
    std::array<T, degree + 1> c{};
    double term = 1.0;
    for (int i = 0; i <= degree; ++i, term *= 0.693147180559945309417232 / i) c[size_t(i)] = T(term);
    return c;
  }();
  using Bits = typename Simd<T>::BitsVector;
  const auto vanishes = x < smallest;
  const Vector<T> bounded = vanishes ? broadcast(smallest) : x;
  const Vector<T> shifted = bounded + shift;
  const Vector<T> fraction = bounded - (shifted - shift);
  Vector<T> value = broadcast(coefficients[degree]);
#pragma GCC unroll 16
  for (int i = degree - 1; i >= 0; --i) value = value * fraction + coefficients[size_t(i)];
  const Bits exponent = std::bit_cast<Bits>(shifted) << mantissa_bits;
  const Vector<T> result = std::bit_cast<Vector<T>>(std::bit_cast<Bits>(value) + exponent);
  return vanishes ? Vector<T>{} : result;
}

// A row-major panel whose rows are `stride` elements apart.
template <class T>
struct Panel {
  T* data;
  int64_t stride;
  T* row(int64_t i) const { return data + i * stride; }
  operator Panel<const T>() const { return {data, stride}; }  // NOLINT(google-explicit-constructor)
};

// to(d, q) = factor * from(q, d) for q < queries, 0 for the other q up to the next whole vector.
template <class T>
void pack_transposed(Panel<const T> from, int64_t queries, int64_t head_dim, T factor, Panel<T> to) {
  constexpr int lanes = Simd<T>::kLanes;
  for (int64_t q = 0; q < queries; q += lanes) {
    int64_t d = 0;
    for (; q + lanes <= queries && d + lanes <= head_dim; d += lanes) {
      Vector<T> rows[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) rows[i] = load(from.row(q + i) + d) * factor;
      transpose_square<T>(rows);
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) store(to.row(d + i) + q, rows[i]);
    }
    for (; d < head_dim; ++d)
      for (int64_t i = 0; i < lanes; ++i)
        to.row(d)[q + i] = q + i < queries ? from.row(q + i)[d] * factor : T(0);
  }
}

// The products a tile needs: c = a b, c += a b, c += a^T b.
enum class Product { set, add, add_transposed };

// c (kRows x kVectors vectors), all of it in registers.
template <class T, Product kProduct, int kRows, int kVectors>
inline void multiply_block(int64_t depth, Panel<const T> a, Panel<const T> b, Panel<T> c) {
  constexpr int lanes = Simd<T>::kLanes;
  Vector<T> sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v)
      sums[r][v] = kProduct == Product::set ? Vector<T>{} : load(c.row(r) + v * lanes);
  for (int64_t k = 0; k < depth; ++k) {
    Vector<T> right[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) right[v] = load(b.row(k) + v * lanes);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const T left = kProduct == Product::add_transposed ? a.row(k)[r] : a.row(r)[k];
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sums[r][v] += left * right[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(c.row(r) + v * lanes, sums[r][v]);
}

template <class T, Product kProduct, int kRows, int kVectors>
void multiply_rows(int64_t rows, int64_t depth, Panel<const T> a, Panel<const T> b, Panel<T> c) {
  const int64_t step = kProduct == Product::add_transposed ? 1 : a.stride;
  for (; rows >= kRows; rows -= kRows) {
    multiply_block<T, kProduct, kRows, kVectors>(depth, a, b, c);
    a.data += kRows * step;
    c.data += kRows * c.stride;
  }
  if constexpr (kRows > 1)
    if (rows > 0) multiply_rows<T, kProduct, kRows / 2, kVectors>(rows, depth, a, b, c);
}

// c (rows, cols) from op(a) (rows, depth) and b (depth, cols); `cols` is a whole number of vectors.
template <class T, Product kProduct, int kVectors = 4>
void multiply(int64_t rows, int64_t cols, int64_t depth, Panel<const T> a, Panel<const T> b, Panel<T> c) {
  constexpr int64_t width = kVectors * Simd<T>::kLanes;
  for (; cols >= width; cols -= width) {
    multiply_rows<T, kProduct, kAccumulators / kVectors, kVectors>(rows, depth, a, b, c);
    b.data += width;
    c.data += width;
  }
  if constexpr (kVectors > 1)
    if (cols > 0) multiply<T, kProduct, kVectors / 2>(rows, cols, depth, a, b, c);
}

}  // namespace polar::cpu::attention
