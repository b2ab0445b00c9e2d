// Elementary functions that the compiler turns into vector code: no branch, no call, no table. Inside a
// `#pragma omp simd` loop every one of them becomes a dozen or two vector instructions. Infinities, signed
// zeros, NaN, denormals and overflow behave as in <cmath>; exp and log are within 1 ulp, tanh
// and sigmoid within 2.5.
//
// Sources of the polynomials: Cephes (S. Moshier) for float; the Taylor series of exp and fdlibm's log for
// double.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace polar::cpu::vector_math {

// c0 + c1 x + c2 x^2 + ... by Horner's rule.
template <class T, class... Rest>
[[gnu::always_inline]] constexpr T horner(T x, T c, Rest... rest) {
  if constexpr (sizeof...(rest) == 0)
    return c;
  else
    return c + x * horner(x, rest...);
}

// The IEEE format, and the two halves of ln 2 whose high part times any exponent is exact.
template <class T>
struct Format;
template <>
struct Format<float> {
  using Int = int32_t;
  static constexpr Int kMantissaBits = 23, kBias = 127;
  static constexpr float kRound = 0x1.8p23f;  // adding it rounds to an integer, in the low bits of the sum
  static constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  static constexpr float kExpLow = -104.0f, kExpHigh = 89.0f;  // exp is 0 and infinite beyond
};
template <>
struct Format<double> {
  using Int = int64_t;
  static constexpr Int kMantissaBits = 52, kBias = 1023;
  static constexpr double kRound = 0x1.8p52;
  static constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  static constexpr double kExpLow = -746.0, kExpHigh = 710.0;
};

// 2^n for n within the exponents of normal numbers.
template <class T>
[[gnu::always_inline]] inline T power_of_two(typename Format<T>::Int n) {
  return std::bit_cast<T>((n + Format<T>::kBias) << Format<T>::kMantissaBits);
}

// exp(r) - 1 - r for |r| <= ln(2) / 2.
[[gnu::always_inline]] inline float exp_tail(float r) {
  return r * r *
         horner(r, 5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f, 8.3334519073e-3f, 1.3981999507e-3f,
                1.9875691500e-4f);
}
[[gnu::always_inline]] inline double exp_tail(double r) {
  return r * r *
         horner(r, 1.0 / 2, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880,
                1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800);
}

// x = n ln 2 + r with |r| <= ln(2) / 2.
template <class T>
struct Reduced {
  typename Format<T>::Int n;
  T r;
};
template <class T>
[[gnu::always_inline]] inline Reduced<T> reduce(T x) {
  using F = Format<T>;
  const T shifted = x * T(1.44269504088896340736) + F::kRound;
  const T n = shifted - F::kRound;
  return {std::bit_cast<typename F::Int>(shifted) - std::bit_cast<typename F::Int>(F::kRound),
          (x - n * F::kLn2High) - n * F::kLn2Low};
}

template <class T>
[[gnu::always_inline]] inline T exp(T x) {
  using F = Format<T>;
  x = x < F::kExpLow ? F::kExpLow : x;
  x = x > F::kExpHigh ? F::kExpHigh : x;
  const auto [n, r] = reduce(x);
  // 2^n in two factors, so that results below the normal numbers are rounded once and correctly.
  const auto half = n >> 1;
  return (T(1) + (r + exp_tail(r))) * power_of_two<T>(half) * power_of_two<T>(n - half);
}

// log(1 + f) + e ln 2 for 1 + f in [sqrt(1/2), sqrt(2)].
[[gnu::always_inline]] inline float log_reduced(float f, float e) {
  const float square = f * f;
  float y =
      f * square *
      horner(f, 3.3333331174e-1f, -2.4999993993e-1f, 2.0000714765e-1f, -1.6668057665e-1f, 1.4249322787e-1f,
             -1.2420140846e-1f, 1.1676998740e-1f, -1.1514610310e-1f, 7.0376836292e-2f);
  y += e * Format<float>::kLn2Low;
  y -= 0.5f * square;
  return (f + y) + e * Format<float>::kLn2High;
}
[[gnu::always_inline]] inline double log_reduced(double f, double e) {
  const double s = f / (2.0 + f);
  const double z = s * s;
  const double tail = z * horner(z, 6.666666666666735130e-01, 3.999999999940941908e-01,
                                 2.857142874366239149e-01, 2.222219843214978396e-01, 1.818357216161805012e-01,
                                 1.531383769920937332e-01, 1.479819860511658591e-01);
  const double half_square = 0.5 * f * f;
  return e * Format<double>::kLn2High -
         ((half_square - (s * (half_square + tail) + e * Format<double>::kLn2Low)) - f);
}

template <class T>
[[gnu::always_inline]] inline T log(T x) {
  using F = Format<T>;
  using Int = typename F::Int;
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const T positive = x > T(0) ? x : T(1);  // the others get their result at the end
  const bool denormal = positive < std::numeric_limits<T>::min();
  const T normal = denormal ? positive * power_of_two<T>(F::kMantissaBits + 1) : positive;
  const Int root_half = std::bit_cast<Int>(T(0.70710678118654752440));
  const Int above = std::bit_cast<Int>(normal) - root_half;
  const Int mantissa = (above & ((Int{1} << F::kMantissaBits) - 1)) + root_half;
  const T e =
      static_cast<T>(above >> F::kMantissaBits) - (denormal ? static_cast<T>(F::kMantissaBits + 1) : T(0));
  T y = log_reduced(std::bit_cast<T>(mantissa) - T(1), e);
  y = x < kInfinity ? y : x;  // infinity and NaN
  y = x < T(0) ? std::numeric_limits<T>::quiet_NaN() : y;
  return x == T(0) ? -kInfinity : y;
}

// expm1(2|x|) / (expm1(2|x|) + 2): keeps the relative accuracy near zero.
template <class T>
[[gnu::always_inline]] inline T tanh(T x) {
  T twice = T(2) * std::abs(x);
  twice = twice > T(44) ? T(44) : twice;  // tanh is 1 from there on, also in double
  const auto [n, r] = reduce(twice);
  const T power = power_of_two<T>(n);
  const T expm1 = power * (r + exp_tail(r)) + (power - T(1));
  return std::copysign(expm1 / (expm1 + T(2)), x);
}

// 1 / (1 + exp(-x)), to full relative accuracy on both sides.
template <class T>
[[gnu::always_inline]] inline T sigmoid(T x) {
  const T e = exp(-std::abs(x));
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}

}  // namespace polar::cpu::vector_math
