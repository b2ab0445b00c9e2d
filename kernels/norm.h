// Launchers of RMSNorm over the rows of a matrix. T in {float, bf16}; matrices are (rows, cols) row-major,
// their strides in elements.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace polar::kernels {

// sum = input + residual (without a residual: sum is not written and stands for the input);
// rstd = 1 / sqrt(mean(sum^2) + eps); output = sum * rstd * weight. All =. The norm is that of the rounded
// sum, which the backward pass reads. `sum` may be `input` or `residual`.
template <class T>
struct RmsNormForwardArguments {
  const T* input;
  int64_t input_stride;
  const T* residual;  // null: none
  int64_t residual_stride;
  T* sum;  // with a residual
  int64_t sum_stride;
  const T* weight;  // (cols)
  T* output;
  int64_t output_stride;
  float* rstd;  // (rows)
  int64_t rows, cols;
  float eps;
};
template <class T>
cudaError_t rms_norm_forward(const RmsNormForwardArguments<T>& args, cudaStream_t stream);

// With g = weight * doutput and n = input * rstd: dinput += rstd * (g - n * mean(g n)),
// dweight += column sums of doutput * n.
template <class T>
struct RmsNormBackwardArguments {
  const T* doutput;
  int64_t doutput_stride;
  const T* input;
  int64_t input_stride;
  const T* weight;    // (cols)
  const float* rstd;  // (rows)
  T* dinput;
  int64_t dinput_stride;
  float* dweight;   // (cols)
  float* partials;  // rms_norm_backward_partials(rows, cols) values
  int64_t rows, cols;
};
template <class T>
cudaError_t rms_norm_backward(const RmsNormBackwardArguments<T>& args, cudaStream_t stream);
int64_t rms_norm_backward_partials(int64_t rows, int64_t cols);

}  // namespace polar::kernels
