#include "optim/rational.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace polar {
namespace {

using Real = long double;  // products of differences of nearly equal numbers follow

constexpr Real kOne = 1.0L - 1e-15L;  // an interval [l, 1] from here on is a point

QdwhStep qdwh_step(Real l) {
  const Real square = l * l, d = std::cbrt(4.0L * (1.0L - square) / (square * square)),
             s = std::sqrt(1.0L + d);
  const Real a = s + std::sqrt(8.0L - 4.0L * d + 8.0L * (2.0L - square) / (square * s)) / 2.0L;
  const Real b = (a - 1.0L) * (a - 1.0L) / 4.0L, c = a + b - 1.0L;
  const Real next = std::min(1.0L, l * (a + b * square) / (1.0L + c * square));
  return {static_cast<double>(a), static_cast<double>(b), static_cast<double>(c), static_cast<double>(next)};
}

// The complete elliptic integral K for the complementary modulus k', by the arithmetic-geometric mean.
Real complete_integral(Real complementary) {
  Real a = 1.0L, g = complementary;
  while (a - g > 1e-18L * a) {
    const Real mean = (a + g) / 2.0L;
    g = std::sqrt(a * g);
    a = mean;
  }
  return std::numbers::pi_v<Real> / (2.0L * a);
}

// sinh(x) / sinh(y) for 0 < x < y
Real ratio_of_sinh(Real x, Real y) {
  return std::exp(x - y) * std::expm1(-2.0L * x) / std::expm1(-2.0L * y);
}

// c_i = l^2 sn^2 / cn^2 of i K' / (2r + 1) for the modulus l' = sqrt(1 - l^2), i = 1 ... 2r, where K' =
// K(l'). By Jacobi's imaginary transformation and the series of sn in its nome (Abramowitz,
// Stegun 16.20, 16.23.1) with K = K(l): sn / cn (u) = pi / (l K) sum_n sinh((2n+1) pi u / (2K)) / sinh((2n+1)
// pi K' / (2K)). No term is negative, so nothing cancels, however small l is.
std::vector<Real> zolo_shifts(Real l, int64_t order) {
  const Real other = std::sqrt((1.0L - l) * (1.0L + l)), k = complete_integral(other);
  const Real end = std::numbers::pi_v<Real> * complete_integral(l) / (2.0L * k);
  std::vector<Real> c;
  for (int64_t i = 1; i <= 2 * order; ++i) {
    const Real at = end * static_cast<Real>(i) / static_cast<Real>(2 * order + 1);
    Real sum = 0.0L, term = 1.0L;
    for (int64_t n = 0; term > 1e-20L * sum; ++n) {
      const auto odd = static_cast<Real>(2 * n + 1);
      term = ratio_of_sinh(odd * at, odd * end);
      sum += term;
    }
    const Real tangent_times_l = std::numbers::pi_v<Real> / k * sum;
    c.push_back(tangent_times_l * tangent_times_l);
  }
  return c;
}

ZoloStep zolo_step(Real l, int64_t order) {
  const std::vector<Real> c = zolo_shifts(l, order);
  const auto terms = static_cast<size_t>(order);
  ZoloStep step;
  Real factor = 1.0L, value = l;
  for (size_t j = 0; j < terms; ++j) {
    Real a = -1.0L;
    for (size_t k = 0; k < terms; ++k) {
      a *= c[2 * j] - c[2 * k + 1];
      if (k != j) a /= c[2 * j] - c[2 * k];
    }
    step.terms.push_back({static_cast<double>(a), static_cast<double>(c[2 * j])});
    factor *= (1.0L + c[2 * j]) / (1.0L + c[2 * j + 1]);
    value *= (l * l + c[2 * j + 1]) / (l * l + c[2 * j]);
  }
  step.factor = static_cast<double>(factor);
  step.l = static_cast<double>(std::min(1.0L, factor * value));
  for (const Real x : c) step.c.push_back(static_cast<double>(x));
  return step;
}

}  // namespace

std::vector<QdwhStep> qdwh_steps(double l, int64_t steps, double eps) {
  constexpr size_t kMost = 20;  // six suffice for any l of f64
  std::vector<QdwhStep> list;
  const auto is_done = [&] {
    return steps > 0 ? std::ssize(list) == steps : std::abs(1.0 - l) <= 5.0 * eps || list.size() == kMost;
  };
  while (!is_done()) {
    list.push_back(qdwh_step(l));
    l = list.back().l;
  }
  return list;
}

int64_t zolo_order(double condition) {
  constexpr std::array<std::pair<double, int64_t>, 6> kOrders{
      {{6.5, 2}, {180.0, 3}, {1.5e4, 4}, {2e6, 5}, {1e9, 6}, {3e12, 7}}};
  for (const auto& [limit, order] : kOrders)
    if (condition < limit) return order;
  return 8;
}

std::vector<ZoloStep> zolo_steps(double l, int64_t order) {
  std::vector<ZoloStep> list{zolo_step(l, order)};
  list.push_back(zolo_step(std::min(static_cast<Real>(list.front().l), kOne), order));
  return list;
}

}  // namespace polar
