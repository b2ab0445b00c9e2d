#include "optim/polynomials.h"

#include <cmath>
#include <utility>

#include "base/error.h"

namespace polar {
namespace {

// Close to convergence the equations below become ill-conditioned: long double keeps ten digits there.
using Real = long double;
struct Odd {
  Real a, b, c;
  Real operator()(Real x) const { return x * (a + x * x * (b + x * x * c)); }
  void scale(Real s) { a *= s, b *= s, c *= s; }
};

// Solves the 4 x 4 system by Gaussian elimination with partial pivoting.
std::array<Real, 4> solve(std::array<std::array<Real, 5>, 4> m) {
  for (size_t k = 0; k < 4; ++k) {
    size_t pivot = k;
    for (size_t i = k + 1; i < 4; ++i)
      if (std::fabs(m[i][k]) > std::fabs(m[pivot][k])) pivot = i;
    std::swap(m[k], m[pivot]);
    for (size_t i = k + 1; i < 4; ++i) {
      const Real f = m[i][k] / m[k][k];
      for (size_t j = k; j < 5; ++j) m[i][j] -= f * m[k][j];
    }
  }
  std::array<Real, 4> x{};
  for (size_t k = 4; k-- > 0;) {
    Real sum = m[k][4];
    for (size_t j = k + 1; j < 4; ++j) sum -= m[k][j] * x[j];
    x[k] = sum / m[k][k];
  }
  return x;
}

// The odd quintic of least max |1 - p| on [l, u], by Remez exchange: the error alternates at l < q < r < u,
// where q and r are the extrema of p.
Odd optimal_quintic(Real l, Real u) {
  if (l / u >= 1 - 5e-6L) return {15 / (8 * u), -10 / (8 * u * u * u), 3 / (8 * u * u * u * u * u)};
  constexpr int kMaxIterations = 100;  // about ten are needed
  Real q = (3 * l + u) / 4, r = (l + 3 * u) / 4, error = 0;
  Odd p{};
  for (int i = 0; i < kMaxIterations; ++i) {
    const auto row = [](Real x, Real sign) {
      return std::array<Real, 5>{x, x * x * x, x * x * x * x * x, sign, 1};
    };
    const auto [a, b, c, e] = solve({row(l, 1), row(q, -1), row(r, 1), row(u, -1)});
    p = {a, b, c};
    const Real root = std::sqrt(9 * b * b - 20 * a * c);
    q = std::sqrt((-3 * b - root) / (10 * c));
    r = std::sqrt((-3 * b + root) / (10 * c));
    if (i > 0 && std::fabs(e - error) <= 1e-15L) break;
    error = e;
  }
  return p;
}

Quintic rounded(const Odd& p) {
  return {static_cast<double>(p.a), static_cast<double>(p.b), static_cast<double>(p.c)};
}

}  // namespace

std::vector<Quintic> named_quintics(const std::string& name) {
  if (name == "jordan") return {{3.4445, -4.7750, 2.0315}};
  if (name == "quintic5")
    return {{4.0848, -6.8946, 2.9270},
            {3.9505, -6.3029, 2.6377},
            {3.7418, -5.5913, 2.3037},
            {2.8769, -3.1427, 1.2046},
            {2.8366, -3.0525, 1.2012}};
  if (name == "classical_quintic") return {{1.875, -1.25, 0.375}};
  if (name == "classical_cubic") return {{1.5, -0.5, 0.0}};
  fail_usage(
      "oracle.coefficients: found \"{}\", expected jordan, quintic5, classical_quintic, classical_cubic or a "
      "list of [a, b, c]",
      name);
}

std::vector<Quintic> polar_express_quintics(const PolarExpressOptions& options) {
  std::vector<Quintic> list;
  Real l = options.lower_bound, u = 1;
  for (int64_t step = 1; step <= options.steps; ++step) {
    const Real cushioned = options.cushion * u;
    Odd p = optimal_quintic(std::max(l, cushioned), u);
    // A raised lower end leaves the image of [l, u] off centre: put its middle back to 1.
    if (cushioned > l) p.scale(2 / (p(l) + p(u)));
    if (step < options.steps) {
      const Real s = options.safety;
      p = {p.a / s, p.b / (s * s * s), p.c / (s * s * s * s * s)};
    }
    list.push_back(rounded(p));
    l = p(l);
    u = 2 - l;
  }
  return list;
}

Quintic stretched(const Quintic& p, double safety) {
  const double cube = safety * safety * safety;
  return {p[0] / safety, p[1] / cube, p[2] / (cube * safety * safety)};
}

}  // namespace polar
