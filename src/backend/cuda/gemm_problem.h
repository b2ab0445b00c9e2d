// One kind of matrix product: what has to be equal for two products to share a plan.
#pragma once

#include <compare>
#include <cstdint>

#include "tensor/tensor.h"

namespace polar::cuda {

// c (rows, cols) = alpha op(a) op(b) + beta c (+ bias, one of c's dtype a column), row-major, with `depth`
// terms a sum.
struct GemmProblem {
  DType inputs = DType::f32, output = DType::f32;
  bool transpose_a = false, transpose_b = false, bias = false;
  int64_t rows = 0, cols = 0, depth = 0;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0;           // elements
  int32_t a_alignment = 0, b_alignment = 0, c_alignment = 0;  // bytes, a power of two

  auto operator<=>(const GemmProblem&) const = default;
};

}  // namespace polar::cuda
