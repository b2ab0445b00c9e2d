// Launchers of the element-wise optimizer updates (ops/ops.h). Every tensor of a call is flat and has `count`
// elements; parameters and their state are F32. `control` is the step's control tensor in device memory: a
// step that it skips changes nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace polar::kernels {

// A flat array of F32 or BF16.
struct Floats {
  void* data = nullptr;  // null: not there
  bool is_bf16 = false;
};

// The places of `control` that the updates read; those of ops/ops.h.
constexpr int kControlPlaceApply = 0, kControlPlaceGradientScale = 1, kControlPlaceAppliedSteps = 2;

// The parameter rounded to BF16: to nearest even with seed 0, else up or down at random, in proportion to the
// distances, by noise that is a pure function of (seed, applied steps, index).
struct RoundedCopy {
  bf16* data = nullptr;  // null: none
  uint64_t seed = 0;
};

// m += (1 - beta1) (g - m); v = beta2 v + (1 - beta2) g^2, g the gradient times the control's scale;
// parameter = (1 - lr weight_decay) parameter - lr (m / c1) / (sqrt(v / c2) + eps), c = 1 - beta^t.
struct AdamWArguments {
  float* parameter;
  const float* gradient;
  float *m, *v;
  RoundedCopy weight;
  const double* lr;  // in device memory
  double beta1, beta2, eps, weight_decay;
  const double* control;
  int64_t count;
  bool cautious;  // decay only where m * parameter >= 0
};
cudaError_t adamw(const AdamWArguments& args, cudaStream_t stream);

// For `batch` matrices (at most 65535) of `count` elements each:
// buffer = beta buffer + gain s gradient, s the control's scale; out = nesterov ? beta buffer + gain s
// gradient : buffer, or with interpolation > 0 (Lion) interpolation buffer before + (1 - interpolation) s
// gradient. With beta = 0 the buffer is not read. `out` may be null. Gradient i begins at element places[i]
// (in device memory, whole numbers; null: i count); buffers and outs lie one after the other.
struct MomentumArguments {
  Floats gradient, buffer, out;
  float beta;
  double gain;
  bool nesterov;
  const double* beta_now;  // in device memory; null: beta. With `average` the gain is 1 - that
  bool average;
  double interpolation;
  const double* control;
  int64_t count, batch;
  const double* places;
};
cudaError_t momentum_update(const MomentumArguments& args, cudaStream_t stream);

// For `batch` matrices: parameter = (1 - lr weight_decay) parameter - lr multiplier |scale|^exponent
// direction
struct MatrixUpdateArguments {
  float* parameter;
  Floats direction;
  RoundedCopy weight;
  const double* scale;  // (batch) in device memory; null: 1
  double exponent;
  const double* lr;  // in device memory
  double multiplier, weight_decay;
  const double* control;
  int64_t count, batch;  // elements of a matrix
  const double *places, *weight_places;
  bool cautious;  // decay only where direction * parameter >= 0
};
cudaError_t matrix_update(const MatrixUpdateArguments& args, cudaStream_t stream);

}  // namespace polar::kernels
