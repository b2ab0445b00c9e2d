#include "backend/cpu/definite_inverse.h"

#include <algorithm>

#include "backend/cpu/gemm_product.h"
#include "backend/cpu/lapack.h"

namespace polar::cpu {
namespace {

constexpr int64_t kLeaf = 32;   // rows that are inverted one by one
constexpr int64_t kBlock = 96;  // rows or columns from which on a product leaves out a triangle's zeros

// A part of a row-major matrix of `stride` columns.
template <class T>
struct Part {
  T* data;
  int64_t stride;
  Part at(int64_t row, int64_t col) const { return {data + row * stride + col, stride}; }
  Operand<T> operand(bool transposed = false) const { return {data, stride, transposed}; }
};

// c = alpha a b
template <class T>
void product(int64_t rows, int64_t cols, int64_t depth, T alpha, const Operand<T>& a, const Operand<T>& b,
             const Part<T>& c, bool lower = false) {
  multiply(choose_kernel(MatrixProduct<T>{.rows = rows,
                                          .cols = cols,
                                          .depth = depth,
                                          .alpha = alpha,
                                          .a = a,
                                          .b = b,
                                          .beta = 0,
                                          .addend = nullptr,
                                          .addend_stride = 0,
                                          .c = c.data,
                                          .c_stride = c.stride,
                                          .lower = lower},
                         PolarPrecision::full));
}

// The first of two parts of `size`: a multiple of kLeaf.
int64_t half(int64_t size) {
  return (size / 2 + kLeaf - 1) / kLeaf * kLeaf;
}

// c = a x with x (size, size) lower triangular.
template <class T>
void times_lower(int64_t rows, int64_t size, const Part<T>& a, const Part<T>& x, const Part<T>& c) {
  for (int64_t j = 0; j < size; j += kBlock)
    product(rows, std::min(kBlock, size - j), size - j, T{1}, a.at(0, j).operand(), x.at(j, j).operand(),
            c.at(0, j));
}

// c = -x a with x (size, size) lower triangular.
template <class T>
void minus_lower_times(int64_t size, int64_t cols, const Part<T>& x, const Part<T>& a, const Part<T>& c) {
  for (int64_t i = 0; i < size; i += kBlock) {
    const int64_t rows = std::min(kBlock, size - i);
    product(rows, cols, i + rows, T{-1}, x.at(i, 0).operand(), a.operand(), c.at(i, 0));
  }
}

// The lower triangular l becomes its inverse. What is above the diagonal has to be zero.
template <class T>
void invert_lower(int64_t size, const Part<T>& l, T* scratch) {
  if (size <= kLeaf) {
    for (int64_t i = 0; i < size; ++i) {
      T* row = l.at(i, 0).data;
      T sums[kLeaf] = {};
      for (int64_t k = 0; k < i; ++k)
        for (int64_t j = 0; j <= k; ++j) sums[j] += row[k] * l.at(k, j).data[0];
      const T inverse = T{1} / row[i];
      for (int64_t j = 0; j < i; ++j) row[j] = -inverse * sums[j];
      row[i] = inverse;
    }
    return;
  }
  const int64_t h = half(size), rest = size - h;
  invert_lower(h, l, scratch);
  invert_lower(rest, l.at(h, h), scratch);
  const Part<T> product_of_two{scratch, h};
  times_lower(rest, h, l.at(h, 0), l, product_of_two);
  minus_lower_times(rest, h, l.at(h, h), product_of_two, l.at(h, 0));
}

// Rows `first` to `first + rows` of a symmetric matrix up to the diagonal, as lines of first + rows: to `to`,
// and mirrored, in squares that stay in the L1 cache.
template <class T>
void put_symmetric(int64_t first, int64_t rows, const T* lines, const Part<T>& to) {
  constexpr int64_t kSquare = 16;
  const int64_t cols = first + rows;
  for (int64_t i = 0; i < rows; ++i) std::copy_n(lines + i * cols, first + i + 1, to.at(first + i, 0).data);
  for (int64_t i0 = 0; i0 < rows; i0 += kSquare)
    for (int64_t j0 = 0; j0 < first + i0 + kSquare; j0 += kSquare)
      for (int64_t j = j0; j < std::min(cols, j0 + kSquare); ++j)
        for (int64_t i = std::max(i0, j - first + 1); i < std::min(rows, i0 + kSquare); ++i)
          to.at(j, first + i).data[0] = lines[i * cols + j];
}

}  // namespace

template <class T>
bool invert_definite(int64_t size, T* a, T* scratch) {
  const auto n = static_cast<blasint>(size);
  blasint info = 0;
  Lapack<T>::potrf("U", &n, a, &n, &info);  // by columns the lower triangle is the upper one
  if (info != 0) return false;
  for (int64_t i = 0; i < size; ++i) std::fill(a + i * size + i + 1, a + (i + 1) * size, T{0});
  const Part<T> x{a, size};
  invert_lower(size, x, scratch);
  for (int64_t i = 0; i < size; i += kBlock) {  // rows of X^T X: those of X above i are zero there
    const int64_t rows = std::min(kBlock, size - i), cols = i + rows;
    product(rows, cols, size - i, T{1}, x.at(i, i).operand(true), x.at(i, 0).operand(), {scratch, cols});
    put_symmetric(i, rows, scratch, x);  // where no later rows look
  }
  return true;
}

template bool invert_definite(int64_t, float*, float*);
template bool invert_definite(int64_t, double*, double*);

}  // namespace polar::cpu
