// The quadratic problem of the lab: its gradient, its minimum, and what is known of methods on it.
#include <gtest/gtest.h>

#include <cmath>

#include "lab/run.h"

namespace polar::lab {
namespace {

constexpr QuadraticSizes kSmall{.m = 50, .n = 10, .p = 100, .q = 25};

struct Small {
  std::unique_ptr<Ops> ops = make_ops({.device = "cpu", .threads = 1});
  std::unique_ptr<Problem> problem = make_quadratic(*ops, kSmall, 7);
};

std::vector<float> gradient_at(const Problem& problem, Ops& ops, const std::vector<float>& x) {
  std::vector<float> parameters = x, gradients(x.size());
  const Shape flat{static_cast<int64_t>(x.size())};
  const_cast<Problem&>(problem).gradient({parameters.data(), DType::f32, flat},
                                         {gradients.data(), DType::f32, flat}, 0);
  ops.synchronize();
  return gradients;
}

// The gap is a quadratic function: its central difference along any direction is its derivative exactly.
TEST(Quadratic, GradientIsTheDerivativeOfTheGap) {
  const Small small;
  const std::vector<float> x = small.problem->start();
  const std::vector<float> gradient = gradient_at(*small.problem, *small.ops, x);
  for (const size_t i : {size_t{0}, size_t{123}, x.size() - 1}) {
    std::vector<float> up = x, down = x;
    up[i] += 0.5f;
    down[i] -= 0.5f;
    const double width = static_cast<double>(up[i]) - static_cast<double>(down[i]);
    const double slope = (small.problem->measure(up).gap - small.problem->measure(down).gap) / width;
    EXPECT_NEAR(static_cast<double>(gradient[i]) / slope, 1.0, 1e-4) << i;
  }
}

TEST(Quadratic, NewtonContractsTheGapBy9Over16) {
  const Small small;
  Setting newton = quadratic_suite().back();
  ASSERT_TRUE(newton.reference);
  const Result result = run(*small.ops, *small.problem, newton, 10, 1, 7);
  ASSERT_EQ(result.points.size(), 11u);
  for (size_t i = 1; i < result.points.size(); ++i)
    EXPECT_NEAR(result.points[i].measure.gap / result.points[i - 1].measure.gap, 0.5625, 1e-3) << i;
}

// The minimum is that of the residual: there the gradient is rounding.
TEST(Quadratic, TheGapVanishesWhereTheGradientDoes) {
  const Small small;
  Setting newton = quadratic_suite().back();
  newton.group.lr = 1.0;
  const Result result = run(*small.ops, *small.problem, newton, 3, 1, 7);
  EXPECT_LT(result.points.back().measure.gap, 1e-9 * result.points.front().measure.gap);
  EXPECT_LT(result.points.back().measure.gradient_nuclear,
            1e-4 * result.points.front().measure.gradient_nuclear);
}

// PolarGrad converges linearly with gamma = 1 / (L r), L the largest curvature and r the rank (theorem 4.3);
// with three times the largest rate that the exact factor bears it does not.
TEST(Quadratic, PolarGradConvergesAtItsRateAndDivergesBeyondTwiceIt) {
  const Small small;
  Setting exact;
  for (const Setting& setting : quadratic_suite())
    if (setting.name == "PolarGrad, exact") exact = setting;
  // kappa_H L = sigma_max(A)^2 sigma_max(B)^2, here bounded by (sqrt(p) + sqrt(m))^2 (sqrt(q) + sqrt(n))^2.
  const double largest = std::pow(std::sqrt(100.0) + std::sqrt(50.0), 2) * std::pow(5.0 + std::sqrt(10.0), 2);
  exact.group.lr = 1.0 / (largest * 10.0);
  const Result converging = run(*small.ops, *small.problem, exact, 400, 50, 7);
  EXPECT_FALSE(converging.diverged);
  for (size_t i = 1; i < converging.points.size(); ++i)
    EXPECT_LT(converging.points[i].measure.gap, converging.points[i - 1].measure.gap);
  EXPECT_LT(converging.points.back().measure.gap, 1e-3 * converging.points.front().measure.gap);
  exact.group.lr *= 20.0;
  EXPECT_TRUE(run(*small.ops, *small.problem, exact, 400, 10, 7).diverged);
}

// A step that does not shrink with the gradient ends at a plateau; PolarGrad's does shrink.
TEST(Quadratic, MuonStaysOnAPlateauAndPolarGradDoesNot) {
  const Small small;
  Setting muon, polargrad;
  for (const Setting& setting : quadratic_suite()) {
    if (setting.name == "Muon") muon = setting;
    if (setting.name == "PolarGrad, ZOLO-PD") polargrad = setting;
  }
  polargrad.group.lr = 1e-5;
  const Result flat = run(*small.ops, *small.problem, muon, 1000, 500, 7),
               falling = run(*small.ops, *small.problem, polargrad, 1000, 500, 7);
  EXPECT_GT(flat.points[2].measure.gap, 0.3 * flat.points[1].measure.gap);
  EXPECT_LT(falling.points[2].measure.gap, 0.3 * falling.points[1].measure.gap);
  EXPECT_LT(falling.points[2].measure.gap, 1e-2 * flat.points[2].measure.gap);
}

}  // namespace
}  // namespace polar::lab
