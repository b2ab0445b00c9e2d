// The vectorised functions against <cmath> in a wider type, in units in the last place of the correct result.
#include "backend/cpu/vector_math.h"

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace polar {
namespace {

namespace vm = cpu::vector_math;

template <class T>
using Wider = std::conditional_t<std::is_same_v<T, float>, double, long double>;

template <class T>
double error_in_ulp(T got, Wider<T> want) {
  if (std::isnan(want)) return std::isnan(got) ? 0.0 : 1e9;
  const T rounded = static_cast<T>(want);
  if (std::isinf(rounded) || std::isinf(got) || got == rounded) return got == rounded ? 0.0 : 1e9;
  int exponent = 0;
  std::frexp(want, &exponent);
  const int lowest = std::numeric_limits<T>::min_exponent - std::numeric_limits<T>::digits;
  const auto ulp = std::ldexp(Wider<T>(1), std::max(exponent - std::numeric_limits<T>::digits, lowest));
  return static_cast<double>(std::abs(static_cast<Wider<T>>(got) - want) / ulp);
}

// Every exponent and sign of the format, denormals included, then the ranges where the functions bend.
template <class T>
std::vector<T> arguments() {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  std::vector<T> out;
  const Bits step = std::numeric_limits<Bits>::max() / 200003;
  for (Bits i = 0; i < 200003; ++i) out.push_back(std::bit_cast<T>(static_cast<Bits>(i * step + i * i)));
  for (int i = -200000; i <= 200000; ++i) {
    out.push_back(static_cast<T>(i * 1.00001e-4));
    out.push_back(static_cast<T>(i * 4.00003e-3));
    out.push_back(static_cast<T>(std::exp(i * 1e-4)));
    out.push_back(static_cast<T>(1.0 + i * 1e-6));
  }
  const T infinity = std::numeric_limits<T>::infinity();
  for (T x : {T(0), T(-0.0), infinity, -infinity, std::numeric_limits<T>::quiet_NaN(),
              std::numeric_limits<T>::denorm_min(), std::numeric_limits<T>::min(),
              std::numeric_limits<T>::max(), std::numeric_limits<T>::lowest()})
    out.push_back(x);
  return out;
}

template <class T, class Ours, class Exact>
void expect_within(double bound, const Ours& ours, const Exact& exact) {
  const std::vector<T> x = arguments<T>();
  std::vector<T> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = ours(x[i]);  // the compiler vectorises this loop
  double worst = 0.0;
  T at = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double error = error_in_ulp<T>(y[i], exact(static_cast<Wider<T>>(x[i])));
    if (error > worst) {
      worst = error;
      at = x[i];
    }
  }
  EXPECT_LE(worst, bound) << "at " << at;
}

template <class T>
class VectorMath : public ::testing::Test {
 protected:
#ifdef __SSE2__
  // Another test of this process may have made a backend, which flushes denormals; these look at them too.
  VectorMath() {
    _mm_setcsr(_mm_getcsr() & ~0x8040u);
  }
#endif
};
using Types = ::testing::Types<float, double>;
TYPED_TEST_SUITE(VectorMath, Types);

TYPED_TEST(VectorMath, Exp) {
  expect_within<TypeParam>(
      1.01, [](auto x) { return vm::exp(x); }, [](auto x) { return std::exp(x); });
}
TYPED_TEST(VectorMath, Log) {
  expect_within<TypeParam>(
      1.01, [](auto x) { return vm::log(x); }, [](auto x) { return std::log(x); });
}
TYPED_TEST(VectorMath, Tanh) {
  expect_within<TypeParam>(
      2.5, [](auto x) { return vm::tanh(x); }, [](auto x) { return std::tanh(x); });
}
TYPED_TEST(VectorMath, Sigmoid) {
  expect_within<TypeParam>(
      2.5, [](auto x) { return vm::sigmoid(x); },
      [](auto x) {
        const auto e = std::exp(-std::abs(x));
        return (x < 0 ? e : decltype(e)(1)) / (1 + e);
      });
}

TYPED_TEST(VectorMath, SignsAndLimits) {
  using T = TypeParam;
  const T infinity = std::numeric_limits<T>::infinity();
  EXPECT_EQ(vm::exp(-infinity), T(0));
  EXPECT_EQ(vm::exp(infinity), infinity);
  EXPECT_EQ(vm::exp(T(0)), T(1));
  EXPECT_EQ(vm::log(T(0)), -infinity);
  EXPECT_EQ(vm::log(T(-0.0)), -infinity);
  EXPECT_EQ(vm::log(T(1)), T(0));
  EXPECT_TRUE(std::isnan(vm::log(T(-1))));
  EXPECT_EQ(vm::tanh(infinity), T(1));
  EXPECT_EQ(vm::tanh(-infinity), T(-1));
  EXPECT_TRUE(std::signbit(vm::tanh(T(-0.0))));
  EXPECT_EQ(vm::sigmoid(-infinity), T(0));
  EXPECT_EQ(vm::sigmoid(infinity), T(1));
  EXPECT_EQ(vm::sigmoid(T(0)), T(0.5));
}

}  // namespace
}  // namespace polar
