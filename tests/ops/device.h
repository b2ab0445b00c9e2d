// What the tests of operations share: arrays on a device, made and read as doubles, and the check of a
// gradient against central differences. Everything goes through Ops, so that the tests serve every backend.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "ops/ops.h"

namespace polar::testing {

using Values = std::vector<double>;

inline Values random_values(int64_t count, uint64_t stream, double scale = 1.0) {
  Values out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); ++i) out[i] = scale * random_normal(17, stream, i);
  return out;
}

template <class T>
std::vector<T> converted(const Values& values) {
  std::vector<T> out;
  for (double v : values) out.push_back(static_cast<T>(v));
  return out;
}

// bf16 as its bits: the upper half of a float, rounded to nearest even; and back.
inline uint16_t to_bf16(double value) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(value));
  if ((bits & 0x7fffffffU) > 0x7f800000U) return static_cast<uint16_t>(bits >> 16 | 0x40U);  // NaN stays NaN
  return static_cast<uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}
inline double from_bf16(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}
// The values as a tensor of this dtype holds them.
inline Values rounded(DType dtype, Values values) {
  for (double& v : values) {
    if (dtype == DType::f32) v = static_cast<float>(v);
    if (dtype == DType::bf16) v = from_bf16(to_bf16(v));
  }
  return values;
}

// The device under test: POLAR_TEST_DEVICE, or cpu.
inline std::string device_under_test() {
  const char* name = std::getenv("POLAR_TEST_DEVICE");
  return name == nullptr ? "cpu" : name;
}

// A backend and the arrays of one test, which go with it.
class Device {
 public:
  explicit Device(int threads = 2) : ops_(make_ops({.device = device_under_test(), .threads = threads})) {}
  explicit Device(std::unique_ptr<Ops> ops) : ops_(std::move(ops)) {}
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() {
    for (void* memory : memory_) ops_->release(memory);
  }
  Ops* operator->() const { return ops_.get(); }

  Tensor make(DType dtype, Shape shape, const Values& values) {
    Tensor out{nullptr, dtype, shape};
    out.data = ops_->allocate(out.bytes());
    memory_.push_back(out.data);
    write(out, values);
    return out;
  }
  Tensor zeros(DType dtype, Shape shape) {
    return make(dtype, shape, Values(static_cast<size_t>(shape.count())));
  }
  Tensor random(DType dtype, Shape shape, uint64_t stream, double scale = 1.0) {
    return make(dtype, shape, random_values(shape.count(), stream, scale));
  }
  Tensor bytes(size_t count) { return zeros(DType::i32, {static_cast<int64_t>((count + 3) / 4)}); }

  void write(const Tensor& to, const Values& values) {
    ASSERT_EQ(static_cast<int64_t>(values.size()), to.count());
    if (to.dtype == DType::f32) ops_->upload(to, converted<float>(values).data());
    if (to.dtype == DType::f64) ops_->upload(to, values.data());
    if (to.dtype == DType::i32) ops_->upload(to, converted<int32_t>(values).data());
    if (to.dtype == DType::bf16) {
      std::vector<uint16_t> bits;
      for (double v : values) bits.push_back(to_bf16(v));
      ops_->upload(to, bits.data());
    }
    ops_->synchronize();
  }
  Values read(const Tensor& from) const {
    if (from.dtype == DType::f32) return read_as<float>(from);
    if (from.dtype == DType::i32) return read_as<int32_t>(from);
    if (from.dtype == DType::f64) return read_as<double>(from);
    Values values = read_as<uint16_t>(from);
    for (double& bits : values) bits = from_bf16(static_cast<uint16_t>(bits));
    return values;
  }

 private:
  template <class T>
  Values read_as(const Tensor& from) const {
    std::vector<T> raw(static_cast<size_t>(from.count()));
    ops_->synchronize();
    ops_->download(raw.data(), from);
    ops_->synchronize();
    return {raw.begin(), raw.end()};
  }
  std::unique_ptr<Ops> ops_;
  std::vector<void*> memory_;
};

inline double dot(const Values& a, const Values& b) {
  double sum = 0.0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

inline double largest(const Values& values) {
  double out = 0.0;
  for (double v : values) out = std::max(out, std::abs(v));
  return out;
}

// |got - want| <= tolerance * max(|want|) for every element.
inline void expect_close(const Values& got, const Values& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  const double bound = tolerance * largest(want);
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_LE(std::abs(got[i] - want[i]), bound) << what << "[" << i << "]: " << got[i] << " for " << want[i];
}

// Rows of `view_cols` columns from `begin` out of a contiguous array with rows of `stride`.
inline Values columns_of(const Values& values, int64_t stride, int64_t begin, int64_t count) {
  Values out;
  for (size_t row = 0; row < values.size(); row += static_cast<size_t>(stride))
    for (int64_t j = 0; j < count; ++j) out.push_back(values[row + static_cast<size_t>(begin + j)]);
  return out;
}

// Compares `gradient` of the f64 tensor x with central differences of loss(): every element of a small
// tensor, else a sample of elements and some random directions through all of them.
inline void expect_gradient(Device& device, const Tensor& x, const Values& gradient,
                            const std::function<double()>& loss, const std::string& what) {
  constexpr double kStep = 1e-5, kTolerance = 1e-7;
  constexpr int64_t kSample = 24, kDirections = 3;
  const Values base = device.read(x);
  const auto count = static_cast<int64_t>(base.size());
  const double scale = std::max(largest(gradient), 1e-3);
  const auto along = [&](const Values& direction) {
    const auto at = [&](double t) {
      Values moved = base;
      for (size_t i = 0; i < moved.size(); ++i) moved[i] += t * direction[i];
      device.write(x, moved);
      return loss();
    };
    return (at(kStep) - at(-kStep)) / (2.0 * kStep);
  };
  for (int64_t k = 0; k < std::min(count, kSample); ++k) {
    const int64_t i = count <= kSample ? k : k * (count - 1) / (kSample - 1);
    Values direction(base.size());
    direction[static_cast<size_t>(i)] = 1.0;
    EXPECT_NEAR(along(direction), gradient[static_cast<size_t>(i)], kTolerance * std::max(scale, 1.0) * 10)
        << what << "[" << i << "]";
  }
  for (int64_t k = 0; k < kDirections; ++k) {
    const Values direction = random_values(count, 1000 + static_cast<uint64_t>(k));
    const double length = std::sqrt(static_cast<double>(count));
    EXPECT_NEAR(along(direction), dot(direction, gradient), kTolerance * std::max(scale, 1.0) * 10 * length)
        << what << " along direction " << k;
  }
  device.write(x, base);
}

}  // namespace polar::testing
