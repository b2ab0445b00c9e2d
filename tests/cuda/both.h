// What the tests of the CUDA backend share: the same arrays on the CPU backend, which says what is right, and
// on the CUDA backend. A bf16 array has its rounded values in f32 on the CPU, so that both sides start from
// the same.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <string>
#include <vector>

#include "backend/cpu/cpu_ops.h"
#include "backend/cuda/cuda_ops.h"
#include "base/random.h"

namespace polar::cuda::test {

using Values = std::vector<double>;

// The unit of rounding to nearest in bf16 (8 significant bits): |round(x) - x| <= kBf16Unit |x|.
constexpr double kBf16Unit = 0x1p-8;

inline uint16_t bf16_bits(double value) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  if (std::isnan(value)) return 0x7fff;
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline double bf16_value(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}
inline double rounded_to(DType dtype, double value) {
  if (dtype == DType::bf16) return bf16_value(bf16_bits(value));
  return dtype == DType::f32 ? static_cast<double>(static_cast<float>(value)) : value;
}

template <class T>
std::vector<T> converted(const Values& values) {
  return std::vector<T>(values.begin(), values.end());
}

// An array on both backends.
struct Pair {
  Tensor cpu, cuda;
};
// A view of it, e.g. matrix(pair).columns(2, 7).
struct MatrixPair {
  MatrixView cpu, cuda;
  MatrixPair columns(int64_t begin, int64_t count) const {
    return {cpu.columns(begin, count), cuda.columns(begin, count)};
  }
  MatrixPair rows_from(int64_t begin, int64_t count) const {
    return {cpu.rows_from(begin, count), cuda.rows_from(begin, count)};
  }
};
inline MatrixPair matrix(const Pair& pair) {
  return {pair.cpu, pair.cuda};
}

// Both backends and the arrays of one test, which go with it.
class Both {
 public:
  Both() = default;
  Both(const Both&) = delete;
  Both& operator=(const Both&) = delete;
  ~Both() {
    for (const Pair& pair : arrays_) {
      cpu.release(pair.cpu.data);
      cuda.release(pair.cuda.data);
    }
  }

  cpu::CpuOps cpu_ops{2};
  CudaOps cuda_ops;
  Ops& cpu = cpu_ops;  // where default arguments are
  Ops& cuda = cuda_ops;

  // `dtype` is that of the CUDA side. The memory is exactly as large as the array.
  Pair make(DType dtype, Shape shape, const Values& values) {
    Pair pair{{nullptr, dtype == DType::bf16 ? DType::f32 : dtype, shape}, {nullptr, dtype, shape}};
    pair.cpu.data = cpu.allocate(pair.cpu.bytes());
    pair.cuda.data = cuda.allocate(pair.cuda.bytes());
    arrays_.push_back(pair);
    write(pair, values);
    return pair;
  }
  Pair random(DType dtype, Shape shape, uint64_t stream, double scale = 1.0) {
    Values values(static_cast<size_t>(shape.count()));
    for (size_t i = 0; i < values.size(); ++i) values[i] = scale * random_normal(17, stream, i);
    return make(dtype, shape, values);
  }
  Pair constant(DType dtype, Shape shape, double value) {
    return make(dtype, shape, Values(static_cast<size_t>(shape.count()), value));
  }
  Pair zeros(DType dtype, Shape shape) { return constant(dtype, shape, 0.0); }
  // Scratch of so many bytes: on each side what it asks for.
  Pair workspace(size_t cpu_bytes, size_t cuda_bytes) {
    const auto tensor = [](size_t bytes) {
      return Tensor{nullptr, DType::i32, {static_cast<int64_t>((bytes + 3) / 4)}};
    };
    Pair pair{tensor(cpu_bytes), tensor(cuda_bytes)};
    pair.cpu.data = cpu.allocate(pair.cpu.bytes());
    pair.cuda.data = cuda.allocate(pair.cuda.bytes());
    arrays_.push_back(pair);
    return pair;
  }

  void write(const Pair& to, const Values& values) {
    ASSERT_EQ(static_cast<int64_t>(values.size()), to.cuda.count());
    Values rounded = values;
    for (double& value : rounded) value = rounded_to(to.cuda.dtype, value);
    upload(cpu, to.cpu, rounded);
    upload(cuda, to.cuda, rounded);
  }
  Values read_cpu(const Pair& from) { return download(cpu, from.cpu); }
  Values read_cuda(const Pair& from) { return download(cuda, from.cuda); }

 private:
  static void upload(Ops& ops, const Tensor& to, const Values& values) {
    if (to.dtype == DType::f32) ops.upload(to, converted<float>(values).data());
    if (to.dtype == DType::f64) ops.upload(to, values.data());
    if (to.dtype == DType::i32) ops.upload(to, converted<int32_t>(values).data());
    if (to.dtype == DType::bf16) {
      std::vector<uint16_t> bits;
      for (const double value : values) bits.push_back(bf16_bits(value));
      ops.upload(to, bits.data());
    }
    ops.synchronize();
  }
  template <class T>
  static Values download_as(Ops& ops, const Tensor& from) {
    std::vector<T> raw(static_cast<size_t>(from.count()));
    ops.synchronize();
    ops.download(raw.data(), from);
    ops.synchronize();
    Values values(raw.begin(), raw.end());
    if (from.dtype == DType::bf16)
      for (double& value : values) value = bf16_value(static_cast<uint16_t>(value));
    return values;
  }
  static Values download(Ops& ops, const Tensor& from) {
    if (from.dtype == DType::f32) return download_as<float>(ops, from);
    if (from.dtype == DType::i32) return download_as<int32_t>(ops, from);
    if (from.dtype == DType::bf16) return download_as<uint16_t>(ops, from);
    return download_as<double>(ops, from);
  }
  std::vector<Pair> arrays_;
};

inline double largest(const Values& values) {
  double out = 0.0;
  for (const double value : values) out = std::max(out, std::abs(value));
  return out;
}

// |got - want| <= bound for every element; NaN is wrong.
inline void expect_within(const Values& got, const Values& want, double bound, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_LE(std::abs(got[i] - want[i]), bound) << what << "[" << i << "]: " << got[i] << " for " << want[i];
}
// |got - want| <= tolerance * max(|want|) for every element.
inline void expect_close(const Values& got, const Values& want, double tolerance, const std::string& what) {
  expect_within(got, want, tolerance * largest(want), what);
}

}  // namespace polar::cuda::test
