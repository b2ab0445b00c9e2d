// Flat operations against plain loops; reductions against sums in long double.
#include <numeric>

#include "device.h"

namespace polar::testing {
namespace {

// Below, at and above the size of a task, and enough for several.
const int64_t kCounts[] = {1, 5, 33, 16384, 16385, 100003};

TEST(Flat, FillCopyCast) {
  Device device;
  for (int64_t n : kCounts) {
    for (DType dtype : {DType::f32, DType::f64, DType::i32}) {
      const Tensor x = device.zeros(dtype, {n}), y = device.zeros(dtype, {n});
      device->fill(x, 7.0);
      EXPECT_EQ(device.read(x), Values(static_cast<size_t>(n), 7.0));
      device->copy(x, y);
      EXPECT_EQ(device.read(y), Values(static_cast<size_t>(n), 7.0));
    }
    const Tensor wide = device.random(DType::f64, {n}, 1), narrow = device.zeros(DType::f32, {n});
    device->cast(wide, narrow);
    const std::vector<float> rounded = converted<float>(device.read(wide));
    EXPECT_EQ(device.read(narrow), Values(rounded.begin(), rounded.end()));
    device->cast(narrow, wide);
    EXPECT_EQ(device.read(wide), device.read(narrow));
  }
}

TEST(Flat, ScaleAndAxpby) {
  Device device;
  for (int64_t n : kCounts)
    for (DType dtype : {DType::f32, DType::f64}) {
      const Tensor x = device.random(dtype, {n}, 2), y = device.random(dtype, {n}, 3);
      const Values x0 = device.read(x), y0 = device.read(y);
      Values want(x0.size());
      for (size_t i = 0; i < want.size(); ++i) want[i] = 1.5 * x0[i] - 0.25 * y0[i];
      device->axpby(1.5, x, -0.25, y);
      expect_close(device.read(y), want, dtype == DType::f32 ? 1e-7 : 1e-15, "axpby");
      for (double& v : want) v *= 0.5;  // exact
      const Values before = device.read(y);
      device->scale(y, 0.5);
      Values half = before;
      for (double& v : half) v *= 0.5;
      EXPECT_EQ(device.read(y), half);
    }
}

TEST(Flat, ReductionsInDouble) {
  Device device;
  for (int64_t n : kCounts)
    for (DType dtype : {DType::f32, DType::f64}) {
      const Tensor x = device.random(dtype, {n}, 4), y = device.random(dtype, {n}, 5);
      const Tensor out = device.make(DType::f64, {1}, {100.0});
      const Values a = device.read(x), b = device.read(y);
      long double sum = 0, squares = 0, dot = 0, magnitude = 0;
      for (size_t i = 0; i < a.size(); ++i) {
        sum += a[i];
        squares += static_cast<long double>(a[i]) * a[i];
        dot += static_cast<long double>(a[i]) * b[i];
        magnitude += std::abs(a[i]);
      }
      const double tolerance = 1e-15 * static_cast<double>(magnitude + squares + 100);
      device->sum(x, out, true);
      EXPECT_NEAR(device.read(out)[0], static_cast<double>(100 + sum), tolerance);
      device->sum(x, out, false);
      EXPECT_NEAR(device.read(out)[0], static_cast<double>(sum), tolerance);
      device->sum_squares(x, out, false);
      EXPECT_NEAR(device.read(out)[0], static_cast<double>(squares), tolerance);
      device->dot(x, y, out, false);
      EXPECT_NEAR(device.read(out)[0], static_cast<double>(dot), tolerance);
      device->dot(x, y, out, true);
      EXPECT_NEAR(device.read(out)[0], static_cast<double>(2 * dot), 2 * tolerance);
    }
}

// More chunks than a reduction may have: they grow. Where the array lies must not matter either.
TEST(Flat, ReductionsDoNotDependOnThreadsOrAlignment) {
  constexpr int64_t kCount = 2000001;
  Values results;
  for (int threads : {1, 2, 3}) {
    Device device(threads);
    const Tensor x = device.random(DType::f32, {kCount}, 6), out = device.zeros(DType::f64, {1});
    const Tensor moved = device.zeros(DType::f32, {kCount + 7}).slice(7, {kCount});
    device->copy(x, moved);
    for (const Tensor& t : {x, moved}) {
      device->sum_squares(t, out, false);
      results.push_back(device.read(out)[0]);
    }
  }
  for (double r : results) EXPECT_EQ(r, results[0]);
  EXPECT_GT(results[0], 1.9e6);
}

TEST(Flat, ViolatedContractsAreErrors) {
  Device device;
  const Tensor x = device.zeros(DType::f32, {4}), shorter = device.zeros(DType::f32, {3});
  EXPECT_THROW(device->copy(x, shorter), std::runtime_error);
  EXPECT_THROW(device->axpby(1, x, 1, shorter), std::runtime_error);
  EXPECT_THROW(device->sum(x, shorter, false), std::runtime_error);
  EXPECT_THROW(device->scale(device.zeros(DType::i32, {3}), 2.0), std::runtime_error);
}

}  // namespace
}  // namespace polar::testing
