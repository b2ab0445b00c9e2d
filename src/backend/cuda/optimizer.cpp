// Element-wise optimizer updates.
#include "kernels/optimizer.h"

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {
namespace {

static_assert(kControlApply == kernels::kControlPlaceApply &&
              kControlGradientScale == kernels::kControlPlaceGradientScale &&
              kControlAppliedSteps == kernels::kControlPlaceAppliedSteps);

const double* control_of(const Tensor& control) {
  require(is(control, DType::f64, kControlSize), "control is F64 (kControlSize)");
  return control.as<const double>();
}

const double* learning_rate_of(const Tensor& lr) {
  require(is(lr, DType::f64, 1), "the learning rate is one F64 element");
  return lr.as<const double>();
}

kernels::Floats floats_of(const Tensor& x, int64_t count, const char* what) {
  require((x.dtype == DType::f32 || x.dtype == DType::bf16) && x.count() == count, what);
  return {x.data, x.dtype == DType::bf16};
}

kernels::RoundedCopy rounded_copy(const Tensor& weight, uint64_t seed, int64_t count) {
  require(!weight || is(weight, DType::bf16, count), "the rounded weight is BF16, one for each parameter");
  return {weight.as<kernels::bf16>(), seed};
}

// How many matrices `places` (maybe empty: one) speaks of.
int64_t batch_of(const Tensor& places, int64_t elements) {
  constexpr int64_t kMaximumBatch = 65535;  // gridDim.y
  const int64_t batch = places ? places.count() : 1;
  require(!places || places.dtype == DType::f64, "places are F64");
  require(batch <= kMaximumBatch && elements % batch == 0, "a batch of up to 65535 matrices of one size");
  return batch;
}

}  // namespace

void CudaOps::adamw(const AdamW& args) {
  const int64_t count = args.parameter.count();
  require(is(args.parameter, DType::f32, count) && is(args.gradient, DType::f32, count) &&
              is(args.m, DType::f32, count) && is(args.v, DType::f32, count),
          "adamw: parameter, gradient, m and v are F32 and share a count");
  CUDA_CHECK(kernels::adamw({.parameter = args.parameter.as<float>(),
                             .gradient = args.gradient.as<const float>(),
                             .m = args.m.as<float>(),
                             .v = args.v.as<float>(),
                             .weight = rounded_copy(args.weight, args.rounding_seed, count),
                             .lr = learning_rate_of(args.lr),
                             .beta1 = args.beta1,
                             .beta2 = args.beta2,
                             .eps = args.eps,
                             .weight_decay = args.weight_decay,
                             .control = control_of(args.control),
                             .count = count,
                             .cautious = args.cautious},
                            stream_.get()));
}

void CudaOps::momentum_update(const MomentumUpdate& args) {
  constexpr const char* kWhat =
      "momentum_update: gradient, buffer and out are F32 or BF16, buffer and out share a count";
  const int64_t all = args.buffer.count(), batch = batch_of(args.places, all), count = all / batch;
  require(!args.beta_now || is(args.beta_now, DType::f64, 1), "momentum_update: beta_now is one F64 element");
  CUDA_CHECK(kernels::momentum_update(
      {.gradient = floats_of(args.gradient, args.places ? args.gradient.count() : count, kWhat),
       .buffer = floats_of(args.buffer, all, kWhat),
       .out = args.out ? floats_of(args.out, all, kWhat) : kernels::Floats{},
       .beta = static_cast<float>(args.beta),
       .gain = args.gain,
       .nesterov = args.nesterov,
       .beta_now = args.beta_now.as<const double>(),
       .average = args.average,
       .interpolation = args.interpolation,
       .control = control_of(args.control),
       .count = count,
       .batch = batch,
       .places = args.places.as<const double>()},
      stream_.get()));
}

void CudaOps::matrix_update(const MatrixUpdate& args) {
  const int64_t all = args.direction.count(), batch = batch_of(args.places, all), count = all / batch;
  require(args.parameter.dtype == DType::f32, "matrix_update: the parameter is F32");
  require(args.places || args.parameter.count() == count,
          "matrix_update: a parameter as large as the direction");
  require(!args.scale || is(args.scale, DType::f64, batch), "matrix_update: scale is F64, one a matrix");
  const int64_t weights = args.places && args.weight ? args.weight.count() : count;
  CUDA_CHECK(kernels::matrix_update(
      {.parameter = args.parameter.as<float>(),
       .direction = floats_of(args.direction, all, "matrix_update: direction is F32 or BF16"),
       .weight = rounded_copy(args.weight, args.rounding_seed, weights),
       .scale = args.scale.as<const double>(),
       .exponent = args.exponent,
       .lr = learning_rate_of(args.lr),
       .multiplier = args.multiplier,
       .weight_decay = args.weight_decay,
       .control = control_of(args.control),
       .count = count,
       .batch = batch,
       .places = args.places.as<const double>(),
       .weight_places = (args.weight_places ? args.weight_places : args.places).as<const double>(),
       .cautious = args.cautious},
      stream_.get()));
}

}  // namespace polar::cuda
