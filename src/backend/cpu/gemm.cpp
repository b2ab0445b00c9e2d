// Matrix products through BLAS, one thread a call. The product is cut into blocks of c whose borders depend
// on the shapes alone, so any number of threads gives the same bits.
#include <cblas.h>

#include <algorithm>
#include <limits>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

constexpr int64_t kMaxBlocks = 32;                // enough for 16 cores to balance
constexpr int64_t kMinBlockWork = 1 << 22;        // multiply-adds below which a BLAS call is mostly overhead
constexpr int64_t kMinBlockVectorWork = 1 << 19;  // the same for matrix times vector, which waits for memory
constexpr int64_t kMinBlockReuse = 40;        // multiply-adds an element that a block packs: 64 x 128 has 43
constexpr int64_t kBlockAlignment = 16;       // rows and columns: whole registers in BLAS's inner kernel
constexpr int64_t kBiasRowsPerChunk = 64;     // rows that one task of add_bias handles
constexpr int64_t kBiasColumnsPerChunk = 64;  // columns that one task of bias_backward handles
constexpr int64_t kBiasRowsPerBlock = 128;    // rows that it sums before it adds them to the whole

// How c is cut: blocks of `rows` x `cols` (the last ones may be smaller).
struct Blocks {
  int64_t rows, cols;
};

// Every block packs its rows of a and its columns of b anew: rows and columns packed for all of c, each of
// length k.
int64_t packed(int64_t m, int64_t n, Blocks blocks) {
  return divide_up(m, blocks.rows) * n + divide_up(n, blocks.cols) * m;
}

// Of all ways to make `count` blocks (a power of two) the one that packs least.
Blocks cut(int64_t m, int64_t n, int64_t count) {
  Blocks best{m, n};
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int64_t down = 1; down <= count; down *= 2) {
    const Blocks blocks{divide_up(divide_up(m, down), kBlockAlignment) * kBlockAlignment,
                        divide_up(divide_up(n, count / down), kBlockAlignment) * kBlockAlignment};
    if (packed(m, n, blocks) < least && 2 * divide_up(m, blocks.rows) * divide_up(n, blocks.cols) > count) {
      least = packed(m, n, blocks);
      best = blocks;
    }
  }
  return best;
}

// The finest cut whose blocks are still worth a call, and that either reuses well what it packs or packs
// hardly more than the whole product does (few rows, many columns: decoding).
Blocks choose_blocks(int64_t m, int64_t n, int64_t k) {
  const int64_t min_work = m == 1 ? kMinBlockVectorWork : kMinBlockWork;
  Blocks chosen{m, n};
  for (int64_t count = 2; count <= kMaxBlocks; count *= 2) {
    const Blocks finer = cut(m, n, count);
    const int64_t area = std::min(finer.rows, m) * std::min(finer.cols, n);
    const bool reuses = area >= kMinBlockReuse * (finer.rows + finer.cols);
    if (area * k < min_work || (!reuses && 4 * packed(m, n, finer) > 5 * (m + n))) break;
    chosen = finer;
  }
  return chosen;
}

CBLAS_TRANSPOSE blas(Transpose transpose) {
  return transpose == Transpose::yes ? CblasTrans : CblasNoTrans;
}

blasint blas(int64_t size) {
  return static_cast<blasint>(size);
}

void blas_gemm(Transpose ta, Transpose tb, int64_t m, int64_t n, int64_t k, double alpha, const float* a,
               int64_t lda, const float* b, int64_t ldb, double beta, float* c, int64_t ldc) {
  cblas_sgemm(CblasRowMajor, blas(ta), blas(tb), blas(m), blas(n), blas(k), static_cast<float>(alpha), a,
              blas(lda), b, blas(ldb), static_cast<float>(beta), c, blas(ldc));
}

void blas_gemm(Transpose ta, Transpose tb, int64_t m, int64_t n, int64_t k, double alpha, const double* a,
               int64_t lda, const double* b, int64_t ldb, double beta, double* c, int64_t ldc) {
  cblas_dgemm(CblasRowMajor, blas(ta), blas(tb), blas(m), blas(n), blas(k), alpha, a, blas(lda), b, blas(ldb),
              beta, c, blas(ldc));
}

// y = alpha op(b) x + beta y for the stored (rows, cols) matrix b.
void blas_gemv(CBLAS_TRANSPOSE transpose, int64_t rows, int64_t cols, double alpha, const float* b,
               int64_t ldb, const float* x, int64_t x_step, double beta, float* y) {
  cblas_sgemv(CblasRowMajor, transpose, blas(rows), blas(cols), static_cast<float>(alpha), b, blas(ldb), x,
              blas(x_step), static_cast<float>(beta), y, 1);
}

void blas_gemv(CBLAS_TRANSPOSE transpose, int64_t rows, int64_t cols, double alpha, const double* b,
               int64_t ldb, const double* x, int64_t x_step, double beta, double* y) {
  cblas_dgemv(CblasRowMajor, transpose, blas(rows), blas(cols), alpha, b, blas(ldb), x, blas(x_step), beta, y,
              1);
}

// One row of c, as in decoding: BLAS's matrix-vector product is several times faster than its gemm there.
template <class T>
void row_product(Transpose ta, Transpose tb, int64_t n, int64_t k, double alpha, const T* a, int64_t lda,
                 const T* b, int64_t ldb, double beta, T* c) {
  const int64_t a_step = ta == Transpose::yes ? lda : 1;
  if (tb == Transpose::yes)
    blas_gemv(CblasNoTrans, n, k, alpha, b, ldb, a, a_step, beta, c);
  else
    blas_gemv(CblasTrans, k, n, alpha, b, ldb, a, a_step, beta, c);
}

template <class T>
void gemm_blocks(Transpose ta, Transpose tb, double alpha, const MatrixView& a, const MatrixView& b,
                 double beta, const MatrixView& c, int64_t k) {
  const Blocks blocks = choose_blocks(c.rows, c.cols, k);
  const int64_t across = divide_up(c.cols, blocks.cols);
  const int64_t a_step = ta == Transpose::yes ? 1 : a.stride;  // from one row of op(a) to the next
  const int64_t b_step = tb == Transpose::yes ? b.stride : 1;  // from one column of op(b) to the next
  parallel_for(divide_up(c.rows, blocks.rows) * across, [&](int64_t block) {
    const int64_t row = block / across * blocks.rows, col = block % across * blocks.cols;
    const int64_t rows = std::min(blocks.rows, c.rows - row), cols = std::min(blocks.cols, c.cols - col);
    const T* a_block = static_cast<const T*>(a.data) + row * a_step;
    const T* b_block = static_cast<const T*>(b.data) + col * b_step;
    T* c_block = static_cast<T*>(c.data) + row * c.stride + col;
    if (c.rows == 1 && k > 0)
      row_product(ta, tb, cols, k, alpha, a_block, a.stride, b_block, b.stride, beta, c_block);
    else
      blas_gemm(ta, tb, rows, cols, k, alpha, a_block, a.stride, b_block, b.stride, beta, c_block, c.stride);
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
  for (const MatrixView* x : {&a, &b, &c}) {
    require(x->stride >= std::max<int64_t>(x->cols, 1), "gemm: strides cover the columns");
    require(std::max(x->rows, x->stride) <= std::numeric_limits<blasint>::max(),
            "gemm: sizes within BLAS's integers");
  }
  if (c.rows == 0 || c.cols == 0) return;
  dispatch(c.dtype, "gemm", [&](auto zero) {
    gemm_blocks<decltype(zero)>(transpose_a, transpose_b, alpha, a, b, beta, c, k);
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
