// Sums in fixed point, in which the order of the terms changes nothing (Ops::exact_squares).
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/lanes.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

constexpr int kDigits = static_cast<int>(kExactDigits) - 2;  // of numbers
constexpr int kInfinities = kDigits, kNans = kDigits + 1;
constexpr int kLowestExponent = kExactExponent;
constexpr uint64_t kLow = 0xffffffffu;

class FixedPoint {
 public:
  // value >= 0, below 2^262 (64 squares of floats), infinite, or NaN.
  void add(double value) {
    const auto bits = std::bit_cast<uint64_t>(value);
    const int exponent = static_cast<int>(bits >> 52) & 0x7ff;
    if (exponent == 0x7ff) {
      digits_[std::isnan(value) ? kNans : kInfinities] += 1;
      return;
    }
    if (exponent == 0) return;  // zero: what is smaller than any square of a float is none
    uint64_t mantissa = (bits & ((uint64_t{1} << 52) - 1)) | uint64_t{1} << 52;
    int position = exponent - 1075 - kLowestExponent;  // of the mantissa's last bit
    if (position < 0) {
      mantissa = position > -64 ? mantissa >> -position : 0;
      position = 0;
    }
    const auto digit = static_cast<size_t>(position / 32);
    const int shift = position % 32;
    const uint64_t low = (mantissa & kLow) << shift, high = (mantissa >> 32) << shift;
    digits_[digit] += low & kLow;
    digits_[digit + 1] += (low >> 32) + (high & kLow);
    digits_[digit + 2] += high >> 32;
  }
  void add(const FixedPoint& other) {
    for (size_t i = 0; i < digits_.size(); ++i) digits_[i] += other.digits_[i];
  }
  void add(const double* digits) {
    for (size_t i = 0; i < digits_.size(); ++i) digits_[i] += static_cast<uint64_t>(digits[i]);
  }
  // Every digit below 2^32, as the number has them in one way only.
  void carry() {
    for (size_t i = 0; i + 1 < kDigits; ++i) {
      digits_[i + 1] += digits_[i] >> 32;
      digits_[i] &= kLow;
    }
  }
  void write(double* digits, bool accumulate) const {
    for (size_t i = 0; i < digits_.size(); ++i)
      digits[i] = (accumulate ? digits[i] : 0.0) + static_cast<double>(digits_[i]);
  }
  double value() const {
    if (digits_[kNans] > 0) return std::numeric_limits<double>::quiet_NaN();
    if (digits_[kInfinities] > 0) return std::numeric_limits<double>::infinity();
    double value =
        0.0;  // in units of the digit; the smallest first, so that little is rounded before the end
    for (size_t i = 0; i < kDigits; ++i) value = value * 0x1p-32 + static_cast<double>(digits_[i]);
    return std::ldexp(value, 32 * (kDigits - 1) + kLowestExponent);
  }

 private:
  std::array<uint64_t, kExactDigits> digits_{};
};

double atom_squares(const float* x) {
  return lane_sum<double>(kExactAtom, [x](int64_t i) {
    const auto value = static_cast<double>(x[i]);
    return value * value;
  });
}

// Of [begin, end) of x; a last atom that is not whole is filled up with zeros.
FixedPoint range_squares(const float* x, int64_t begin, int64_t end) {
  FixedPoint sum;
  for (; end - begin >= kExactAtom; begin += kExactAtom) sum.add(atom_squares(x + begin));
  if (begin < end) {
    std::array<float, kExactAtom> last{};
    std::copy(x + begin, x + end, last.begin());
    sum.add(atom_squares(last.data()));
  }
  return sum;
}

bool are_digits(const Tensor& x) {
  return x.dtype == DType::f64 && x.count() == kExactDigits;
}

}  // namespace

void exact_squares(const Tensor& x, const Tensor& digits, bool accumulate) {
  require(x.dtype == DType::f32 && are_digits(digits), "exact_squares: x F32, digits F64 (kExactDigits)");
  constexpr int64_t kMaximumChunks = 64;
  static_assert(kTaskElements % kExactAtom == 0);
  const int64_t tasks = divide_up(x.count(), kTaskElements);
  const int64_t chunk = std::max<int64_t>(1, divide_up(tasks, kMaximumChunks)) * kTaskElements;
  std::array<FixedPoint, kMaximumChunks> sums;
  parallel_ranges(x.count(), chunk, [&](int64_t begin, int64_t end) {
    sums[static_cast<size_t>(begin / chunk)] = range_squares(x.as<float>(), begin, end);
  });
  FixedPoint total;
  for (const FixedPoint& sum : sums) total.add(sum);
  total.carry();
  total.write(digits.as<double>(), accumulate);
}

void exact_value(const Tensor& digits, const Tensor& out) {
  require(are_digits(digits) && out.dtype == DType::f64 && out.count() == 1,
          "exact_value: digits F64 (kExactDigits), out F64 (1)");
  FixedPoint sum;
  sum.add(digits.as<double>());
  sum.carry();
  *out.as<double>() = sum.value();
}

}  // namespace polar::cpu
