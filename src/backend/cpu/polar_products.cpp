// Products of the polar iterations on batches of equally shaped matrices. The tasks are whole matrices where
// the batch has enough of them for the threads, else tiles of a matrix; no bit depends on which
// (gemm_kernel.h). Symmetric products compute the lower triangle only and mirror it tile by tile.
#include <algorithm>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/gemm_product.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

// The parts of each matrix when `batch` of them are to keep `threads` threads busy to the end.
int64_t parts_of_matrix(int64_t batch, int64_t threads) {
  constexpr int64_t kTurns = 4;  // tasks a thread from which on an idle last turn does not count
  return batch % threads == 0 || batch >= kTurns * threads ? 1 : threads;
}

// Square tiles of a symmetric matrix. Two rows of tiles for two threads: one tile below the diagonal, and the
// two halves of tiles on it; so on for more.
struct Triangle {
  static constexpr int64_t kSmallestEdge = 64;
  int64_t edge, count;
  Triangle(int64_t size, int64_t parts)
      : edge(std::max(kSmallestEdge,
                      divide_up(divide_up(size, parts == 1 ? 1 : tiles_a_side(parts)), 32) * 32)),
        count(divide_up(size, edge)) {}
  static int64_t tiles_a_side(int64_t parts) {
    int64_t side = 2;
    while (side * side < 2 * parts) ++side;
    return side;
  }
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

// Both triangles of c for products that are symmetric; make(i) gives the product of matrix i.
template <class Make>
void symmetric_products(int64_t batch, int64_t size, PolarPrecision precision, const Make& make) {
  const Triangle triangle(size, parts_of_matrix(batch, omp_get_max_threads()));
  parallel_for(batch * triangle.count * (triangle.count + 1) / 2, [&](int64_t task) {
    // Tile by tile through the batch, so that the small tiles of all matrices come last.
    const TriangleTile tile(task / batch, triangle.count);
    const auto whole = choose_kernel(make(task % batch), precision);
    const int64_t row = tile.row * triangle.edge, col = tile.col * triangle.edge;
    auto part =
        whole.part(row, std::min(triangle.edge, size - row), col, std::min(triangle.edge, size - col));
    part.lower = row == col;
    multiply(part);
    mirror(part.c, part.rows, part.cols, part.c_stride, part.lower, whole.c + col * size + row);
  });
}

void require_square(const Tensor& a, int64_t batch, int64_t size) {
  require(a.shape.rank() == 3 && a.shape[0] == batch && a.shape[1] == size && a.shape[2] == size,
          "polar: a batch of square matrices (batch, s, s), s the short side of x");
}

// y = c0 x + b x (m <= n) or c0 x + x b for one matrix.
template <class T>
MatrixProduct<T> application(const T* x, T c0, const T* b, T* y, int64_t m, int64_t n) {
  const bool wide = m <= n;
  const int64_t size = std::min(m, n);
  const Operand<T> matrix{x, n, false}, factor{b, size, false};
  return {.rows = m,
          .cols = n,
          .depth = size,
          .alpha = T(1),
          .a = wide ? factor : matrix,
          .b = wide ? matrix : factor,
          .beta = c0,
          .addend = x,
          .addend_stride = n,
          .c = y,
          .c_stride = n};
}

}  // namespace

void polar_gram(const Tensor& x, const Tensor& a, PolarPrecision precision) {
  require(x.shape.rank() == 3 && x.dtype == a.dtype, "polar_gram: x (batch, m, n), one dtype");
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2], size = std::min(m, n);
  require_square(a, batch, size);
  dispatch(x.dtype, "polar_gram", [&]<class T>(T) {
    const bool wide = m <= n;
    symmetric_products(batch, size, precision, [&](int64_t i) {
      const T* matrix = x.as<const T>() + i * m * n;
      return MatrixProduct<T>{.rows = size,
                              .cols = size,
                              .depth = std::max(m, n),
                              .alpha = T(1),
                              .a = {matrix, n, !wide},
                              .b = {matrix, n, wide},
                              .beta = T(0),
                              .addend = nullptr,
                              .addend_stride = 0,
                              .c = a.as<T>() + i * size * size,
                              .c_stride = size};
    });
  });
}

void polar_polynomial(const Tensor& a, double c1, double c2, const Tensor& b, PolarPrecision precision) {
  require(a.shape.rank() == 3 && a.dtype == b.dtype, "polar_polynomial: a (batch, s, s), one dtype");
  const int64_t batch = a.shape[0], size = a.shape[1];
  require_square(a, batch, size);
  require_square(b, batch, size);
  dispatch(a.dtype, "polar_polynomial", [&]<class T>(T) {
    symmetric_products(batch, size, precision, [&](int64_t i) {
      const T* matrix = a.as<const T>() + i * size * size;
      // b = a of the product is symmetric: read as its own transpose it is packed without turning.
      return MatrixProduct<T>{.rows = size,
                              .cols = size,
                              .depth = size,
                              .alpha = static_cast<T>(c2),
                              .a = {matrix, size, false},
                              .b = {matrix, size, false},
                              .beta = static_cast<T>(c1),
                              .addend = matrix,
                              .addend_stride = size,
                              .c = b.as<T>() + i * size * size,
                              .c_stride = size};
    });
  });
}

void polar_apply(const Tensor& x, double c0, const Tensor& b, const Tensor& y, PolarPrecision precision) {
  require(x.shape.rank() == 3 && x.shape == y.shape && x.dtype == y.dtype && x.dtype == b.dtype,
          "polar_apply: x and y (batch, m, n), one dtype");
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2];
  require_square(b, batch, std::min(m, n));
  dispatch(x.dtype, "polar_apply", [&]<class T>(T) {
    const int64_t threads = parts_of_matrix(batch, omp_get_max_threads());
    const auto make = [&](int64_t i) {
      return choose_kernel(
          application(x.as<const T>() + i * m * n, static_cast<T>(c0),
                      b.as<const T>() + i * std::min(m, n) * std::min(m, n), y.as<T>() + i * m * n, m, n),
          precision);
    };
    const Grid grid = choose_grid(make(0), threads);
    const int64_t parts = grid.down * grid.across;
    parallel_for(batch * parts, [&](int64_t task) {
      const MatrixProduct<T> whole = make(task / parts);
      const int64_t row = task % parts / grid.across * grid.rows, col = task % grid.across * grid.cols;
      multiply(whole.part(row, std::min(grid.rows, m - row), col, std::min(grid.cols, n - col)));
    });
  });
}

}  // namespace polar::cpu
