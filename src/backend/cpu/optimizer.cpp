// Element-wise optimizer updates: one pass over parameter, gradient and state.
#include <cmath>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

const double* control_of(const Tensor& control) {
  require(control.dtype == DType::f64 && control.count() == kControlSize, "control is F64 (kControlSize)");
  return control.as<double>();
}

double learning_rate(const Tensor& lr) {
  require(lr.dtype == DType::f64 && lr.count() == 1, "the learning rate is one F64 element");
  return *lr.as<double>();
}

bool same(const Tensor& a, const Tensor& b) {
  return a.dtype == b.dtype && a.count() == b.count();
}

}  // namespace

void adamw(const AdamW& args) {
  require(same(args.parameter, args.gradient) && same(args.parameter, args.m) && same(args.parameter, args.v),
          "adamw: parameter, gradient, m and v share dtype and count");
  require(!args.weight, "adamw: the CPU has no rounded weights");
  const double* control = control_of(args.control);
  if (control[kControlApply] == 0.0) return;
  const double t = control[kControlAppliedSteps], lr = learning_rate(args.lr);
  dispatch(args.parameter.dtype, "adamw", [&]<class T>(T) {
    const T gradient_scale = static_cast<T>(control[kControlGradientScale]);
    const T keep = static_cast<T>(1.0 - lr * args.weight_decay);
    const T beta2 = static_cast<T>(args.beta2);
    const T gain1 = static_cast<T>(1.0 - args.beta1), gain2 = static_cast<T>(1.0 - args.beta2);
    // lr / c1 * m / (sqrt(v) / c2 + eps) with both sides of the fraction times c2: one division less.
    const double c1 = 1.0 - std::pow(args.beta1, t), c2 = std::sqrt(1.0 - std::pow(args.beta2, t));
    const T step = static_cast<T>(lr * c2 / c1), eps = static_cast<T>(args.eps * c2);
    T *p = args.parameter.as<T>(), *m = args.m.as<T>(), *v = args.v.as<T>();
    const T* gradient = args.gradient.as<T>();
    parallel_ranges(args.parameter.count(), kTaskElements, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const T g = gradient_scale * gradient[i];
        m[i] += gain1 * (g - m[i]);
        v[i] = beta2 * v[i] + gain2 * g * g;
        p[i] = keep * p[i] - step * m[i] / (std::sqrt(v[i]) + eps);
      }
    });
  });
}

void momentum_update(const MomentumUpdate& args) {
  require(same(args.gradient, args.buffer) && (!args.out || same(args.gradient, args.out)),
          "momentum_update: gradient, buffer and out share dtype and count");
  const double* control = control_of(args.control);
  if (control[kControlApply] == 0.0) return;
  dispatch(args.gradient.dtype, "momentum_update", [&]<class T>(T) {
    const T beta = static_cast<T>(args.beta);
    const T gain = static_cast<T>(args.gain * control[kControlGradientScale]);
    const T* gradient = args.gradient.as<T>();
    T *buffer = args.buffer.as<T>(), *out = args.out.as<T>();
    const bool nesterov = args.nesterov;
    parallel_ranges(args.gradient.count(), kTaskElements, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) buffer[i] = beta * buffer[i] + gain * gradient[i];
      if (out == nullptr) return;
#pragma omp simd
      for (int64_t i = begin; i < end; ++i)
        out[i] = nesterov ? beta * buffer[i] + gain * gradient[i] : buffer[i];
    });
  });
}

void matrix_update(const MatrixUpdate& args) {
  require(same(args.parameter, args.direction),
          "matrix_update: parameter and direction share dtype and count");
  require(!args.weight, "matrix_update: the CPU has no rounded weights");
  require(!args.scale || (args.scale.dtype == DType::f64 && args.scale.count() == 1),
          "matrix_update: scale is one F64 element");
  if (control_of(args.control)[kControlApply] == 0.0) return;
  const double lr = learning_rate(args.lr);
  const double scale = args.scale ? std::pow(std::abs(*args.scale.as<double>()), args.exponent) : 1.0;
  dispatch(args.parameter.dtype, "matrix_update", [&]<class T>(T) {
    const T keep = static_cast<T>(1.0 - lr * args.weight_decay);
    const T step = static_cast<T>(lr * args.multiplier * scale);
    T* p = args.parameter.as<T>();
    const T* direction = args.direction.as<T>();
    parallel_ranges(args.parameter.count(), kTaskElements, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) p[i] = keep * p[i] - step * direction[i];
    });
  });
}

}  // namespace polar::cpu
