// Flat operations: one pass over memory each, in tasks of kTaskElements.
#include <algorithm>
#include <cstring>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/lanes.h"
#include "backend/cpu/parallel.h"
#include "tensor/bf16.h"

namespace polar::cpu {
namespace {

template <class T>
void fill_with(const Tensor& x, double value) {
  T* data = x.as<T>();
  parallel_ranges(x.count(), kTaskElements, [=](int64_t begin, int64_t end) {
    std::fill(data + begin, data + end, static_cast<T>(value));
  });
}

// out[i] = one(in[i])
template <class From, class To, class One>
void transform(const From* in, To* out, int64_t count, const One& one) {
  parallel_ranges(count, kTaskElements, [=](int64_t begin, int64_t end) {
#pragma omp simd
    for (int64_t i = begin; i < end; ++i) out[i] = one(in[i]);
  });
}

// Sums term(i) over [0, count) in f64 into out: chunks of a size that depends on the count alone, each summed
// by one task, then the chunks in turn.
template <class Term>
void reduce(int64_t count, const Tensor& out, bool accumulate, const Term& term) {
  constexpr int64_t kMaximumChunks = 1024;
  const int64_t chunk = std::max(kTaskElements, divide_up(count, kMaximumChunks));
  const int64_t chunks = divide_up(count, chunk);
  double partial[kMaximumChunks];
  parallel_ranges(count, chunk, [&](int64_t begin, int64_t end) {
    partial[begin / chunk] = lane_sum<double>(end - begin, [&](int64_t i) { return term(begin + i); });
  });
  double total = accumulate ? *out.as<double>() : 0.0;
  for (int64_t i = 0; i < chunks; ++i) total += partial[i];
  *out.as<double>() = total;
}

void require_scalar(const Tensor& out) {
  require(out.dtype == DType::f64 && out.count() == 1, "the result of a reduction is one F64 element");
}

}  // namespace

void fill(const Tensor& x, double value) {
  if (x.dtype == DType::i32)
    fill_with<int32_t>(x, value);
  else if (x.dtype == DType::bf16)
    fill_with<uint16_t>(x, float_to_bf16(static_cast<float>(value)));
  else
    dispatch(x.dtype, "fill", [&]<class T>(T) { fill_with<T>(x, value); });
}

void copy(const Tensor& from, const Tensor& to) {
  require(from.dtype == to.dtype && from.count() == to.count(), "copy: same dtype and count");
  const auto* in = from.as<std::byte>();
  auto* out = to.as<std::byte>();
  const auto task_bytes = kTaskElements * static_cast<int64_t>(sizeof(double));
  parallel_ranges(static_cast<int64_t>(from.bytes()), task_bytes, [=](int64_t begin, int64_t end) {
    std::memcpy(out + begin, in + begin, static_cast<size_t>(end - begin));
  });
}

void cast(const Tensor& from, const Tensor& to) {
  require(from.count() == to.count(), "cast: same count");
  if (from.dtype == DType::f32 && to.dtype == DType::bf16)
    return transform(from.as<float>(), to.as<uint16_t>(), to.count(), float_to_bf16);
  if (from.dtype == DType::bf16 && to.dtype == DType::f32)
    return transform(from.as<uint16_t>(), to.as<float>(), to.count(), bf16_to_float);
  dispatch(from.dtype, "cast", [&]<class From>(From) {
    dispatch(to.dtype, "cast", [&]<class To>(To) {
      transform(from.as<From>(), to.as<To>(), to.count(), [](From x) { return static_cast<To>(x); });
    });
  });
}

void scale(const Tensor& x, double factor) {
  dispatch(x.dtype, "scale", [&]<class T>(T) {
    T* data = x.as<T>();
    const T f = static_cast<T>(factor);
    parallel_ranges(x.count(), kTaskElements, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) data[i] *= f;
    });
  });
}

void axpby(double a, const Tensor& x, double b, const Tensor& y) {
  require(x.dtype == y.dtype && x.count() == y.count(), "axpby: same dtype and count");
  dispatch(x.dtype, "axpby", [&]<class T>(T) {
    const T* in = x.as<T>();
    T* out = y.as<T>();
    const T fa = static_cast<T>(a), fb = static_cast<T>(b);
    parallel_ranges(x.count(), kTaskElements, [=](int64_t begin, int64_t end) {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) out[i] = fa * in[i] + fb * out[i];
    });
  });
}

void sum(const Tensor& x, const Tensor& out, bool accumulate) {
  require_scalar(out);
  dispatch(x.dtype, "sum", [&]<class T>(T) {
    const T* data = x.as<T>();
    reduce(x.count(), out, accumulate, [=](int64_t i) { return static_cast<double>(data[i]); });
  });
}

void sum_squares(const Tensor& x, const Tensor& out, bool accumulate) {
  dot(x, x, out, accumulate);
}

void dot(const Tensor& x, const Tensor& y, const Tensor& out, bool accumulate) {
  require_scalar(out);
  require(x.dtype == y.dtype && x.count() == y.count(), "dot: same dtype and count");
  dispatch(x.dtype, "dot", [&]<class T>(T) {
    const T* a = x.as<T>();
    const T* b = y.as<T>();
    reduce(x.count(), out, accumulate,
           [=](int64_t i) { return static_cast<double>(a[i]) * static_cast<double>(b[i]); });
  });
}

}  // namespace polar::cpu
