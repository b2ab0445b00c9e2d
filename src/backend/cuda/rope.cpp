// Per-head RMSNorm and rotary embedding.
#include "kernels/rope.h"

#include <algorithm>

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {
namespace {

void require_contract(const QkNormRope& args, const Tensor& weight, const MatrixView& x) {
  require(x.cols == args.heads * args.head_dim && args.head_dim % 2 == 0 && args.time > 0,
          "qk_norm_rope: rows of heads * head_dim elements, an even head_dim, time > 0");
  require(args.head_dim <= kernels::kMaximumRopeHeadDim, "qk_norm_rope: head_dim at most 256");
  require(!weight || is(weight, x.dtype, args.head_dim), "qk_norm_rope: weight (D)");
  require(args.rope_table.dtype == DType::f32 && args.rope_table.shape.rank() == 2 &&
              args.rope_table.shape[1] == args.head_dim &&
              args.first_position + std::min(args.time, x.rows) <= args.rope_table.shape[0],
          "qk_norm_rope: rope_table F32 (positions, D) covers every position");
}

kernels::RopeShape shape_of(const QkNormRope& args, int64_t rows) {
  return {.rows = rows,
          .heads = args.heads,
          .head_dim = args.head_dim,
          .time = args.time,
          .first_position = args.first_position,
          .eps = static_cast<float>(args.eps),
          .table = args.rope_table.as<const float>()};
}

}  // namespace

void CudaOps::qk_norm_rope_forward(const QkNormRopeForward& args) {
  require_contract(args, args.weight, args.input);
  require(same_shape(args.input, args.output), "qk_norm_rope_forward: input and output (N, heads*D)");
  dispatch(args.input.dtype, "qk_norm_rope_forward", [&]<class T>(T) {
    CUDA_CHECK(kernels::qk_norm_rope_forward(shape_of(args, args.input.rows), pointer<const T>(args.input),
                                             args.input.stride, args.weight.as<const T>(),
                                             pointer<T>(args.output), args.output.stride, stream_.get()));
  });
}

void CudaOps::qk_norm_rope_backward(const QkNormRopeBackward& args) {
  const MatrixView& gradient = args.dgradient;
  require_contract(args, args.weight, gradient);
  const bool norm = static_cast<bool>(args.weight);
  require(!norm || (same_shape(args.input, gradient) && is(args.dweight, DType::f32, args.head_dim)),
          "qk_norm_rope_backward: input (N, heads*D), dweight F32 (D)");
  require(!norm || args.workspace.bytes() >= qk_norm_rope_backward_workspace(gradient.rows, args.heads,
                                                                             args.head_dim, gradient.dtype),
          "qk_norm_rope_backward: workspace too small");
  dispatch(gradient.dtype, "qk_norm_rope_backward", [&]<class T>(T) {
    CUDA_CHECK(kernels::qk_norm_rope_backward(shape_of(args, gradient.rows), pointer<const T>(args.input),
                                              norm ? args.input.stride : 0, args.weight.as<const T>(),
                                              pointer<T>(gradient), gradient.stride, args.dweight.as<float>(),
                                              args.workspace.as<float>(), stream_.get()));
  });
}

size_t CudaOps::qk_norm_rope_backward_workspace(int64_t rows, int64_t heads, int64_t head_dim,
                                                DType /*dtype*/) const {
  return static_cast<size_t>(kernels::qk_norm_rope_backward_partials(rows, heads, head_dim)) * sizeof(float);
}

}  // namespace polar::cuda
