// Matrix products.
#include <algorithm>
#include <bit>

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/gemm_plans.h"

namespace polar::cuda {
namespace {

// The largest power of two, up to 256, that divides the address.
int32_t alignment_of(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return 1 << std::min(8, std::countr_zero(address));
}

// c = beta c, where the sums have no terms.
void scale_output(double beta, const MatrixView& c, const Stream& stream) {
  if (beta == 1.0) return;
  require(beta == 0.0, "gemm: without terms (K = 0) beta is 0 or 1");
  const size_t size = size_of(c.dtype);
  CUDA_CHECK(cudaMemset2DAsync(c.data, static_cast<size_t>(c.stride) * size, 0,
                               static_cast<size_t>(c.cols) * size, static_cast<size_t>(c.rows),
                               stream.get()));
}

}  // namespace

void CudaOps::gemm(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
                   const MatrixView& b, double beta, const MatrixView& c) {
  multiply(transpose_a, transpose_b, alpha, a, b, beta, c, {});
}

void CudaOps::gemm_bias(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
                        const MatrixView& b, double beta, const MatrixView& c, const Tensor& bias) {
  require(is(bias, c.dtype, c.cols), "gemm_bias: one bias a column, of c's dtype");
  multiply(transpose_a, transpose_b, alpha, a, b, beta, c, bias);
}

void CudaOps::multiply(Transpose transpose_a, Transpose transpose_b, double alpha, const MatrixView& a,
                       const MatrixView& b, double beta, const MatrixView& c, const Tensor& bias) {
  const bool ta = transpose_a == Transpose::yes, tb = transpose_b == Transpose::yes;
  const int64_t depth = ta ? a.rows : a.cols;
  require((ta ? a.cols : a.rows) == c.rows, "gemm: rows of op(a) = rows of c");
  require((tb ? b.rows : b.cols) == c.cols, "gemm: columns of op(b) = columns of c");
  require((tb ? b.cols : b.rows) == depth, "gemm: columns of op(a) = rows of op(b)");
  require((a.dtype == DType::f32 || a.dtype == DType::bf16) && a.dtype == b.dtype &&
              (c.dtype == a.dtype || c.dtype == DType::f32),
          "gemm: a and b both F32 or BF16, c the same or F32");
  for (const MatrixView* x : {&a, &b, &c})
    require(x->stride >= std::max<int64_t>(x->cols, 1), "gemm: strides cover the columns");
  if (c.rows == 0 || c.cols == 0) return;
  if (depth == 0) {
    scale_output(beta, c, stream_);
    if (bias) add_bias(c, bias);
    return;
  }
  gemm_->run({.inputs = a.dtype,
              .output = c.dtype,
              .transpose_a = ta,
              .transpose_b = tb,
              .bias = bias.data != nullptr,
              .rows = c.rows,
              .cols = c.cols,
              .depth = depth,
              .a_stride = a.stride,
              .b_stride = b.stride,
              .c_stride = c.stride,
              .a_alignment = alignment_of(a.data),
              .b_alignment = alignment_of(b.data),
              .c_alignment = alignment_of(c.data)},
             {.alpha = alpha,
              .a = a.data,
              .b = b.data,
              .beta = beta,
              .c = c.data,
              .bias = bias.data,
              .workspace = workspace() + kScratchBytes},
             stream_);
}

}  // namespace polar::cuda
