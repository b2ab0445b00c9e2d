// Matrix products of one thread, and how a product is cut into such products. See gemm_kernel.h for what the
// bits of a result depend on.
#pragma once

#include <cstdint>

#include "backend/cpu/gemm_pack.h"
#include "ops/ops.h"

namespace polar::cpu {

// gemm_kernel.h, or the matrix units with every operand in three or two parts (gemm_split.h).
enum class ProductKernel : uint8_t { multiply_add, three_parts, two_parts };

// c = alpha a b + beta * addend with a (rows, depth), b (depth, cols), c and addend (rows, cols). addend may
// be c itself; it is not read when beta is 0, nor are a and b when depth is 0.
template <class T>
struct MatrixProduct {
  int64_t rows, cols, depth;
  T alpha;
  Operand<T> a, b;
  T beta;
  const T* addend;
  int64_t addend_stride;
  T* c;
  int64_t c_stride;
  // Only the lower triangle is wanted: what lies above the diagonal may be left as it is.
  bool lower = false;
  // Set it by choose_kernel for the whole product, before it is cut.
  ProductKernel kernel = ProductKernel::multiply_add;

  // The rows and columns of it that start at (row, col).
  MatrixProduct part(int64_t row, int64_t part_rows, int64_t col, int64_t part_cols) const;
};

// The product with the kernel that suits its size: the same for all its parts.
template <class T>
MatrixProduct<T> choose_kernel(MatrixProduct<T> product, PolarPrecision precision);

// The whole product in the calling thread.
template <class T>
void multiply(const MatrixProduct<T>& product);

// A grid of equal parts (the last ones may be smaller) that `threads` threads finish soonest.
struct Grid {
  int64_t rows, cols;    // of a part
  int64_t down, across;  // parts
};
template <class T>
Grid choose_grid(const MatrixProduct<T>& product, int64_t threads);

// Makes the calling thread's packing buffers, which otherwise its first product makes.
void reserve_packing_buffers();

}  // namespace polar::cpu
