// RMSNorm of rows.
#include "kernels/norm.h"

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::rms_norm_forward(const RmsNormForward& args) {
  const int64_t rows = args.input.rows, cols = args.input.cols;
  require(same_shape(args.input, args.output), "rms_norm_forward: input and output (N, C)");
  require(args.residual.data == nullptr ||
              (same_shape(args.input, args.residual) && same_shape(args.input, args.sum)),
          "rms_norm_forward: residual and sum (N, C)");
  require(is(args.weight, args.input.dtype, cols) && is(args.rstd, DType::f32, rows),
          "rms_norm_forward: weight (C), rstd F32 (N)");
  const bool residual = args.residual.data != nullptr;
  dispatch(args.input.dtype, "rms_norm_forward", [&]<class T>(T) {
    CUDA_CHECK(kernels::rms_norm_forward<T>({.input = pointer<const T>(args.input),
                                             .input_stride = args.input.stride,
                                             .residual = pointer<const T>(args.residual),
                                             .residual_stride = residual ? args.residual.stride : 0,
                                             .sum = residual ? pointer<T>(args.sum) : nullptr,
                                             .sum_stride = residual ? args.sum.stride : 0,
                                             .weight = args.weight.as<const T>(),
                                             .output = pointer<T>(args.output),
                                             .output_stride = args.output.stride,
                                             .rstd = args.rstd.as<float>(),
                                             .rows = rows,
                                             .cols = cols,
                                             .eps = static_cast<float>(args.eps)},
                                            stream_.get()));
  });
}

void CudaOps::rms_norm_backward(const RmsNormBackward& args) {
  const int64_t rows = args.input.rows, cols = args.input.cols;
  require(same_shape(args.input, args.doutput) && same_shape(args.input, args.dinput),
          "rms_norm_backward: doutput, input and dinput (N, C)");
  require(is(args.weight, args.input.dtype, cols) && is(args.dweight, DType::f32, cols) &&
              is(args.rstd, DType::f32, rows),
          "rms_norm_backward: weight (C), dweight F32 (C), rstd F32 (N)");
  require(args.workspace.bytes() >= rms_norm_backward_workspace(rows, cols, args.input.dtype),
          "rms_norm_backward: workspace too small");
  dispatch(args.input.dtype, "rms_norm_backward", [&]<class T>(T) {
    CUDA_CHECK(kernels::rms_norm_backward<T>({.doutput = pointer<const T>(args.doutput),
                                              .doutput_stride = args.doutput.stride,
                                              .input = pointer<const T>(args.input),
                                              .input_stride = args.input.stride,
                                              .weight = args.weight.as<const T>(),
                                              .rstd = args.rstd.as<const float>(),
                                              .dinput = pointer<T>(args.dinput),
                                              .dinput_stride = args.dinput.stride,
                                              .dweight = args.dweight.as<float>(),
                                              .partials = args.workspace.as<float>(),
                                              .rows = rows,
                                              .cols = cols},
                                             stream_.get()));
  });
}

size_t CudaOps::rms_norm_backward_workspace(int64_t rows, int64_t cols, DType /*dtype*/) const {
  return static_cast<size_t>(kernels::rms_norm_backward_partials(rows, cols)) * sizeof(float);
}

}  // namespace polar::cuda
