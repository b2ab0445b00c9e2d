// Matrix products cut into parts for the threads, and biases. Where the cut lies changes no bit of a product
// (gemm_kernel.h), so it may follow the number of threads.
#include <omp.h>

#include <algorithm>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/gemm_product.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

constexpr int64_t kMinParallelWork = 1 << 18;  // multiply-adds that take as long as waking the threads
constexpr int64_t kBiasRowsPerChunk = 64;      // rows that one task of add_bias handles
constexpr int64_t kBiasColumnsPerChunk = 64;   // columns that one task of bias_backward handles
constexpr int64_t kBiasRowsPerBlock = 128;     // rows that it sums before it adds them to the whole

template <class T>
void multiply_in_parts(const MatrixProduct<T>& product) {
  const int64_t threads = omp_in_parallel() ? 1 : omp_get_max_threads();
  const bool small = product.rows * product.cols * std::max<int64_t>(product.depth, 1) < kMinParallelWork;
  if (small || threads == 1) return multiply(product);
  const Grid grid = choose_grid(product, threads);
  parallel_for(grid.down * grid.across, [&](int64_t i) {
    const int64_t row = i / grid.across * grid.rows, col = i % grid.across * grid.cols;
    multiply(product.part(row, std::min(grid.rows, product.rows - row), col,
                          std::min(grid.cols, product.cols - col)));
  });
}

}  // namespace

void gemm(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
          const MatrixView& b, double beta, const MatrixView& c) {
  const bool ta = transpose_a == Transpose::yes, tb = transpose_b == Transpose::yes;
  const int64_t k = ta ? a.rows : a.cols;
  require((ta ? a.cols : a.rows) == c.rows, "gemm: rows of op(a) = rows of c");
  require((tb ? b.rows : b.cols) == c.cols, "gemm: columns of op(b) = columns of c");
  require((tb ? b.cols : b.rows) == k, "gemm: columns of op(a) = rows of op(b)");
  require(a.dtype == c.dtype && b.dtype == c.dtype, "gemm: one dtype");
  for (const MatrixView* x : {&a, &b, &c})
    require(x->stride >= std::max<int64_t>(x->cols, 1), "gemm: strides cover the columns");
  if (c.rows == 0 || c.cols == 0) return;
  dispatch(c.dtype, "gemm", [&]<class T>(T) {
    multiply_in_parts(choose_kernel(MatrixProduct<T>{.rows = c.rows,
                                                     .cols = c.cols,
                                                     .depth = k,
                                                     .alpha = static_cast<T>(alpha),
                                                     .a = {static_cast<const T*>(a.data), a.stride, ta},
                                                     .b = {static_cast<const T*>(b.data), b.stride, tb},
                                                     .beta = static_cast<T>(beta),
                                                     .addend = static_cast<const T*>(c.data),
                                                     .addend_stride = c.stride,
                                                     .c = static_cast<T*>(c.data),
                                                     .c_stride = c.stride},
                                    PolarPrecision::full));
  });
}

void add_bias(const MatrixView& y, const Tensor& bias) {
  require(bias.count() == y.cols && bias.dtype == y.dtype, "add_bias: one bias a column");
  dispatch(y.dtype, "add_bias", [&](auto zero) {
    using T = decltype(zero);
    const T* from = bias.as<T>();
    parallel_for(divide_up(y.rows, kBiasRowsPerChunk), [&](int64_t chunk) {
      const int64_t end = std::min(y.rows, (chunk + 1) * kBiasRowsPerChunk);
      for (int64_t row = chunk * kBiasRowsPerChunk; row < end; ++row) {
        T* to = static_cast<T*>(y.data) + row * y.stride;
#pragma omp simd
        for (int64_t col = 0; col < y.cols; ++col) to[col] += from[col];
      }
    });
  });
}

// A task owns a strip of columns and adds its rows from the first to the last.
void bias_backward(const MatrixView& dy, const Tensor& dbias) {
  require(dbias.count() == dy.cols && dbias.dtype == dy.dtype, "bias_backward: one bias a column");
  dispatch(dy.dtype, "bias_backward", [&](auto zero) {
    using T = decltype(zero);
    parallel_for(divide_up(dy.cols, kBiasColumnsPerChunk), [&](int64_t chunk) {
      const int64_t first = chunk * kBiasColumnsPerChunk;
      const int64_t width = std::min(kBiasColumnsPerChunk, dy.cols - first);
      T sums[kBiasColumnsPerChunk] = {};
      for (int64_t begin = 0; begin < dy.rows; begin += kBiasRowsPerBlock) {  // short sums round less
        T block[kBiasColumnsPerChunk] = {};
        for (int64_t row = begin; row < std::min(begin + kBiasRowsPerBlock, dy.rows); ++row) {
          const T* from = static_cast<const T*>(dy.data) + row * dy.stride + first;
#pragma omp simd
          for (int64_t col = 0; col < width; ++col) block[col] += from[col];
        }
        for (int64_t col = 0; col < width; ++col) sums[col] += block[col];
      }
      for (int64_t col = 0; col < width; ++col) dbias.as<T>()[first + col] += sums[col];
    });
  });
}

}  // namespace polar::cpu
