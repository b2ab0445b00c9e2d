// Element-wise optimizer updates: one pass over parameter, gradient and state.
#include <algorithm>
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

// Calls body(matrix, begin, end) for ranges of the elements of every matrix of a batch.
template <class Body>
void for_each_range(int64_t batch, int64_t size, const Body& body) {
  const int64_t chunks = divide_up(size, kTaskElements);
  parallel_for(batch * chunks, [&](int64_t i) {
    const int64_t begin = i % chunks * kTaskElements;
    body(i / chunks, begin, std::min(size, begin + kTaskElements));
  });
}

// How many matrices `places` (maybe empty: one at 0) speaks of.
int64_t batch_of(const Tensor& places, int64_t elements) {
  const int64_t batch = places ? places.count() : 1;
  require(!places || places.dtype == DType::f64, "places are F64");
  require(elements % batch == 0, "a batch of matrices of one size");
  return batch;
}
int64_t place(const Tensor& places, int64_t matrix) {
  return places ? static_cast<int64_t>(places.as<double>()[matrix]) : 0;
}

// What is left of a parameter that the step moves by -direction (times something positive).
template <class T>
T kept(bool cautious, T keep, T direction, T parameter) {
  return !cautious || direction * parameter >= T(0) ? keep : T(1);
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
    const bool cautious = args.cautious;
    parallel_ranges(args.parameter.count(), kTaskElements, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) {
        const T g = gradient_scale * gradient[i];
        m[i] += gain1 * (g - m[i]);
        v[i] = beta2 * v[i] + gain2 * g * g;
        p[i] = kept(cautious, keep, m[i], p[i]) * p[i] - step * m[i] / (std::sqrt(v[i]) + eps);
      }
    });
  });
}

void momentum_update(const MomentumUpdate& args) {
  const int64_t batch = batch_of(args.places, args.buffer.count()), size = args.buffer.count() / batch;
  require(args.gradient.dtype == args.buffer.dtype && (!args.out || same(args.buffer, args.out)),
          "momentum_update: gradient, buffer and out share a dtype, buffer and out a count");
  require(args.places || args.gradient.count() == size, "momentum_update: a gradient as large as the buffer");
  const double* control = control_of(args.control);
  if (control[kControlApply] == 0.0) return;
  const double beta_now = args.beta_now ? *args.beta_now.as<double>() : args.beta;
  const double gain_now = args.beta_now && args.average ? 1.0 - beta_now : args.gain;
  dispatch(args.gradient.dtype, "momentum_update", [&]<class T>(T) {
    const T beta = static_cast<T>(beta_now);
    const T scale = static_cast<T>(control[kControlGradientScale]);
    const T gain = static_cast<T>(gain_now * control[kControlGradientScale]);
    const T before = static_cast<T>(args.interpolation);
    const T news = static_cast<T>(1.0 - args.interpolation) * scale;
    for_each_range(batch, size, [&](int64_t matrix, int64_t begin, int64_t end) {
      const T* gradient = args.gradient.as<T>() + place(args.places, matrix);
      T* buffer = args.buffer.as<T>() + matrix * size;
      T* out = args.out ? args.out.as<T>() + matrix * size : nullptr;
      if (out != nullptr && args.interpolation > 0.0) {
#pragma omp simd
        for (int64_t i = begin; i < end; ++i) out[i] = before * buffer[i] + news * gradient[i];
        out = nullptr;
      }
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) buffer[i] = beta * buffer[i] + gain * gradient[i];
      if (out == nullptr) return;
      const bool nesterov = args.nesterov;
#pragma omp simd
      for (int64_t i = begin; i < end; ++i)
        out[i] = nesterov ? beta * buffer[i] + gain * gradient[i] : buffer[i];
    });
  });
}

void matrix_update(const MatrixUpdate& args) {
  const int64_t batch = batch_of(args.places, args.direction.count()), size = args.direction.count() / batch;
  require(args.parameter.dtype == args.direction.dtype,
          "matrix_update: parameter and direction share a dtype");
  require(args.places || args.parameter.count() == size,
          "matrix_update: a parameter as large as the direction");
  require(!args.weight, "matrix_update: the CPU has no rounded weights");
  require(!args.scale || (args.scale.dtype == DType::f64 && args.scale.count() == batch),
          "matrix_update: scale is one F64 element a matrix");
  if (control_of(args.control)[kControlApply] == 0.0) return;
  const double lr = learning_rate(args.lr);
  dispatch(args.parameter.dtype, "matrix_update", [&]<class T>(T) {
    const T keep = static_cast<T>(1.0 - lr * args.weight_decay);
    for_each_range(batch, size, [&](int64_t matrix, int64_t begin, int64_t end) {
      const double scale =
          args.scale ? std::pow(std::abs(args.scale.as<double>()[matrix]), args.exponent) : 1.0;
      const T step = static_cast<T>(lr * args.multiplier * scale);
      T* p = args.parameter.as<T>() + place(args.places, matrix);
      const T* direction = args.direction.as<T>() + matrix * size;
      const bool cautious = args.cautious;
#pragma omp simd
      for (int64_t i = begin; i < end; ++i)
        p[i] = kept(cautious, keep, direction[i], p[i]) * p[i] - step * direction[i];
    });
  });
}

}  // namespace polar::cpu
