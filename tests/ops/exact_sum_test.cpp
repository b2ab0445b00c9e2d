// Sums of squares that neither the order of their terms nor the way in which they are cut can change.
#include <numeric>
#include <random>

#include "device.h"

namespace polar::testing {
namespace {

class ExactSum : public ::testing::Test {
 protected:
  double value_of(const Tensor& digits) {
    const Tensor out = device_.zeros(DType::f64, {1});
    device_->exact_value(digits, out);
    return device_.read(out)[0];
  }
  Values digits_of(const Tensor& x) {
    const Tensor digits = device_.zeros(DType::f64, {kExactDigits});
    device_->exact_squares(x, digits, false);
    return device_.read(digits);
  }
  double squares_of(const Values& x) {
    return value_of(device_.make(DType::f64, {kExactDigits}, digits_of(make(x))));
  }
  Tensor make(const Values& x) {
    return device_.make(DType::f32, {static_cast<int64_t>(x.size())}, Values(x));
  }
  // As gradients are: most small, some of any size.
  Values random(int64_t count, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal, size(-12.0, 2.0);
    Values x(static_cast<size_t>(count));
    for (double& v : x) v = static_cast<float>(normal(engine) * std::exp(size(engine)));
    return x;
  }

  Device device_;
};

TEST_F(ExactSum, IsTheSum) {
  for (const int64_t count : {1, 5, 63, 64, 65, 16384, 16449, 1200001}) {
    const Values x = random(count, static_cast<unsigned>(count));
    long double want = 0.0;
    for (const double v : x) want += static_cast<long double>(v) * v;
    const double got = squares_of(x);
    EXPECT_NEAR(got, static_cast<double>(want), 64 * 0x1p-53 * got) << count;  // the roundings within an atom
  }
}

TEST_F(ExactSum, WholeNumbersAreExact) {
  std::mt19937 engine(1);
  Values x(100000);
  uint64_t want = 0;
  for (double& v : x) {
    const uint64_t whole = engine() % 100000;
    v = static_cast<double>(whole);
    want += whole * whole;
  }
  EXPECT_EQ(squares_of(x), static_cast<double>(want));
}

// Cut at multiples of an atom, in any pieces and order, by any number of threads, wherever the array lies:
// the same bits. A sum in f64 differs.
TEST_F(ExactSum, DependsOnNoCutAndNoOrder) {
  constexpr int64_t kAtoms = 3000, kCount = kAtoms * kExactAtom;
  const Values x = random(kCount, 3);
  const double want = squares_of(x);
  std::mt19937 engine(4);
  std::vector<int64_t> order(kAtoms);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), engine);
  Values shuffled;
  for (const int64_t atom : order)
    shuffled.insert(shuffled.end(), x.begin() + atom * kExactAtom, x.begin() + (atom + 1) * kExactAtom);
  EXPECT_EQ(squares_of(shuffled), want);

  for (const int parts : {2, 3, 7}) {
    Values sum(static_cast<size_t>(kExactDigits), 0.0);
    const Tensor accumulated = device_.zeros(DType::f64, {kExactDigits});
    for (int part = 0; part < parts; ++part) {
      Values piece(shuffled.begin() + kAtoms * part / parts * kExactAtom,
                   shuffled.begin() + kAtoms * (part + 1) / parts * kExactAtom);
      piece.insert(piece.end(), static_cast<size_t>(part) * kExactAtom, 0.0);  // padding
      const Values digits = digits_of(make(piece));
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += digits[i];
      device_->exact_squares(make(piece), accumulated, part > 0);
    }
    EXPECT_EQ(value_of(device_.make(DType::f64, {kExactDigits}, sum)), want) << parts;
    EXPECT_EQ(device_.read(accumulated), sum) << parts;
  }
  for (const int threads : {2, 3}) {
    Device other(threads);
    const Tensor moved = other.zeros(DType::f32, {kCount + 3}).slice(3, {kCount});
    other.write(moved, Values(x));
    const Tensor digits = other.zeros(DType::f64, {kExactDigits}), out = other.zeros(DType::f64, {1});
    other->exact_squares(moved, digits, false);
    other->exact_value(digits, out);
    EXPECT_EQ(other.read(out)[0], want) << threads;
  }

  const Tensor out = device_.zeros(DType::f64, {2});
  device_->sum_squares(make(x), out.slice(0, {1}), false);
  device_->sum_squares(make(shuffled), out.slice(1, {1}), false);
  EXPECT_NE(device_.read(out)[0], device_.read(out)[1]);
}

TEST_F(ExactSum, HoldsTheWholeRangeOfFloats) {
  const double largest = std::numeric_limits<float>::max(), smallest = std::numeric_limits<float>::min();
  EXPECT_EQ(squares_of({}), 0.0);
  EXPECT_EQ(squares_of({0.0, -0.0}), 0.0);
  EXPECT_EQ(squares_of({smallest}), smallest * smallest);
  EXPECT_EQ(squares_of({-largest}), largest * largest);
  EXPECT_EQ(squares_of(Values(64, largest)), 64 * (largest * largest));
  // Far apart, and in atoms of their own: nothing is lost before the last rounding.
  Values apart(3 * 64, 0.0);
  apart[0] = 1.0;
  apart[64] = 0x1p-27;   // squared: 2^-54, half a unit below the last place of 1
  apart[128] = 0x1p-60;  // what tips it
  const double unit = 0x1p-52;
  EXPECT_EQ(squares_of(apart), 1.0);
  apart[64] = 0x1.6a09e8p-27;  // squared: 2^-53 and a little more
  EXPECT_EQ(squares_of(apart), 1.0 + unit);
}

TEST_F(ExactSum, ShowsWhatIsNotFinite) {
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  Values x(1000, 1.0);
  x[700] = -infinity;
  EXPECT_EQ(squares_of(x), infinity);
  x[10] = nan;
  EXPECT_TRUE(std::isnan(squares_of(x)));
  x[700] = 1.0;
  EXPECT_TRUE(std::isnan(squares_of(x)));
}

TEST_F(ExactSum, ViolatedContractsAreErrors) {
  const Tensor x = device_.zeros(DType::f32, {4}), digits = device_.zeros(DType::f64, {kExactDigits});
  EXPECT_THROW(device_->exact_squares(device_.zeros(DType::f64, {4}), digits, false), std::runtime_error);
  EXPECT_THROW(device_->exact_squares(x, device_.zeros(DType::f64, {1}), false), std::runtime_error);
  EXPECT_THROW(device_->exact_value(digits, digits), std::runtime_error);
}

}  // namespace
}  // namespace polar::testing
