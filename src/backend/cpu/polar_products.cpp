// Products of the polar iterations on batches of equally shaped matrices. A product is cut into tiles whose
// borders depend on the matrix alone; the tiles of all matrices are the tasks, so one large matrix keeps all
// cores busy as well as many small ones do. Symmetric products compute the lower triangle only: rank-k
// updates on the diagonal, general products below it, mirrored tile by tile.
#include <algorithm>

#include "backend/cpu/blas.h"
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

// Equal parts of at most kEdge rows: BLAS is near its best speed there, and two large tiles already balance.
struct Tiling {
  static constexpr int64_t kEdge = 256, kRegisterRows = 16;
  int64_t edge, count;
  explicit Tiling(int64_t size)
      : edge(divide_up(divide_up(size, divide_up(size, kEdge)), kRegisterRows) * kRegisterRows),
        count(divide_up(size, edge)) {}
};

// The tile (row, col) of task i among the tiles of a lower triangle; the diagonal, which is half the work,
// comes last so that the threads end together.
struct TriangleTile {
  int64_t row, col;
  TriangleTile(int64_t i, int64_t tiles) : row(1), col(i) {
    const int64_t below = tiles * (tiles - 1) / 2;
    if (i >= below) {
      row = col = i - below;
      return;
    }
    for (; col >= row; ++row) col -= row;
  }
};

// upper[j][i] = lower[i][j] in blocks that stay in the L1 cache. The two may be one diagonal tile.
template <class T>
void mirror(const T* lower, int64_t rows, int64_t cols, int64_t stride, bool diagonal, T* upper) {
  constexpr int64_t kBlock = 16;
  for (int64_t i0 = 0; i0 < rows; i0 += kBlock)
    for (int64_t j0 = 0; j0 < (diagonal ? std::min(cols, i0 + kBlock) : cols); j0 += kBlock)
      for (int64_t j = j0; j < std::min(cols, j0 + kBlock); ++j)
        for (int64_t i = diagonal ? std::max(i0, j + 1) : i0; i < std::min(rows, i0 + kBlock); ++i)
          upper[j * stride + i] = lower[i * stride + j];
}

// Both triangles of out (size, size) = alpha p p^T + shift * addend. Row i of p (size, depth) starts at
// p + i * step; `transpose` tells BLAS whether p is stored as it is or transposed, with row length `stride`.
template <class T>
struct SymmetricProduct {
  int64_t size, depth;
  const T* p;
  int64_t step, stride;
  CBLAS_TRANSPOSE transpose;
  T alpha;
  T shift;
  const T* addend;  // symmetric, or null
  T* out;

  void tile(int64_t row, int64_t rows, int64_t col, int64_t cols) const {
    T* lower = out + row * size + col;
    if (addend != nullptr)
      for (int64_t i = 0; i < rows; ++i) {
        const T* from = addend + (row + i) * size + col;
#pragma omp simd
        for (int64_t j = 0; j < cols; ++j) lower[i * size + j] = shift * from[j];
      }
    const T beta = addend != nullptr ? T(1) : T(0);
    if (row == col)
      blas::syrk_lower(transpose, rows, depth, alpha, p + row * step, stride, beta, lower, size);
    else
      blas::gemm(transpose, transpose == CblasNoTrans ? CblasTrans : CblasNoTrans, rows, cols, depth, alpha,
                 p + row * step, stride, p + col * step, stride, beta, lower, size);
    mirror(lower, rows, cols, size, row == col, out + col * size + row);
  }
};

// make(i) gives the product of matrix i.
template <class Make>
void symmetric_products(int64_t batch, int64_t size, const Make& make) {
  const Tiling tiling(size);
  const int64_t tiles = tiling.count * (tiling.count + 1) / 2;
  parallel_for(batch * tiles, [&](int64_t task) {
    // Tile by tile through the batch, so that the small tiles of all matrices come last.
    const TriangleTile tile(task / batch, tiling.count);
    const int64_t row = tile.row * tiling.edge, col = tile.col * tiling.edge;
    make(task % batch).tile(row, std::min(tiling.edge, size - row), col, std::min(tiling.edge, size - col));
  });
}

// Rows [row, row + rows) of y = c0 x + b x if b is on the left, else c0 x + x b.
template <class T>
void apply_rows(const T* x, T c0, const T* b, T* y, int64_t m, int64_t n, int64_t row, int64_t rows) {
  const T* x_rows = x + row * n;
  T* y_rows = y + row * n;
#pragma omp simd
  for (int64_t i = 0; i < rows * n; ++i) y_rows[i] = c0 * x_rows[i];
  if (m <= n)
    blas::gemm(CblasNoTrans, CblasNoTrans, rows, n, m, T(1), b + row * m, m, x, n, T(1), y_rows, n);
  else
    blas::gemm(CblasNoTrans, CblasNoTrans, rows, n, n, T(1), x_rows, n, b, n, T(1), y_rows, n);
}

void require_square(const Tensor& a, int64_t batch, int64_t size) {
  require(a.shape.rank() == 3 && a.shape[0] == batch && a.shape[1] == size && a.shape[2] == size,
          "polar: a batch of square matrices (batch, s, s), s the short side of x");
}

}  // namespace

void polar_gram(const Tensor& x, const Tensor& a) {
  require(x.shape.rank() == 3 && x.dtype == a.dtype, "polar_gram: x (batch, m, n), one dtype");
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2], size = std::min(m, n);
  require_square(a, batch, size);
  dispatch(x.dtype, "polar_gram", [&]<class T>(T) {
    const bool wide = m <= n;
    symmetric_products(batch, size, [&](int64_t i) {
      return SymmetricProduct<T>{.size = size,
                                 .depth = std::max(m, n),
                                 .p = x.as<const T>() + i * m * n,
                                 .step = wide ? n : 1,
                                 .stride = n,
                                 .transpose = wide ? CblasNoTrans : CblasTrans,
                                 .alpha = T(1),
                                 .shift = T(0),
                                 .addend = nullptr,
                                 .out = a.as<T>() + i * size * size};
    });
  });
}

void polar_polynomial(const Tensor& a, double c1, double c2, const Tensor& b) {
  require(a.shape.rank() == 3 && a.dtype == b.dtype, "polar_polynomial: a (batch, s, s), one dtype");
  const int64_t batch = a.shape[0], size = a.shape[1];
  require_square(a, batch, size);
  require_square(b, batch, size);
  dispatch(a.dtype, "polar_polynomial", [&]<class T>(T) {
    symmetric_products(batch, size, [&](int64_t i) {
      const T* matrix = a.as<const T>() + i * size * size;
      return SymmetricProduct<T>{.size = size,
                                 .depth = size,
                                 .p = matrix,
                                 .step = size,
                                 .stride = size,
                                 .transpose = CblasNoTrans,
                                 .alpha = static_cast<T>(c2),
                                 .shift = static_cast<T>(c1),
                                 .addend = matrix,
                                 .out = b.as<T>() + i * size * size};
    });
  });
}

void polar_apply(const Tensor& x, double c0, const Tensor& b, const Tensor& y) {
  require(x.shape.rank() == 3 && x.shape == y.shape && x.dtype == y.dtype && x.dtype == b.dtype,
          "polar_apply: x and y (batch, m, n), one dtype");
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2];
  require_square(b, batch, std::min(m, n));
  const Tiling tiling(m);
  dispatch(x.dtype, "polar_apply", [&]<class T>(T) {
    parallel_for(batch * tiling.count, [&](int64_t task) {
      const int64_t i = task / tiling.count, row = task % tiling.count * tiling.edge;
      apply_rows(x.as<const T>() + i * m * n, static_cast<T>(c0),
                 b.as<const T>() + i * std::min(m, n) * std::min(m, n), y.as<T>() + i * m * n, m, n, row,
                 std::min(tiling.edge, m - row));
    });
  });
}

}  // namespace polar::cpu
