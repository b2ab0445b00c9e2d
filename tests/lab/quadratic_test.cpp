// The quadratic problem of the lab: its gradient, its minimum, and what is known of methods on it.
#include <cmath>
#include <set>

#include "small.h"

namespace polar::lab {
namespace {

constexpr QuadraticSizes kSmall{.m = 50, .n = 10, .p = 100, .q = 25};

struct Small {
  std::unique_ptr<Ops> ops = make_test_ops();
  std::unique_ptr<Problem> problem = make_quadratic(*ops, kSmall, 7);
};

// The gap is a quadratic function: its central difference along any direction is its derivative exactly.
TEST(Quadratic, GradientIsTheDerivativeOfTheGap) {
  const Small small;
  const std::vector<float> x = small.problem->start();
  const std::vector<float> gradient = gradient_at(*small.problem, *small.ops, x);
  for (const size_t i : {size_t{0}, size_t{123}, size_t{499}})
    EXPECT_NEAR(static_cast<double>(gradient[i]) / slope_at(*small.problem, x, i, 0.5f), 1.0, 1e-4) << i;
}

TEST(Quadratic, StartFillsTheFlatBufferWhichIsPadded) {
  const Small small;
  const std::vector<float> x = small.problem->start();
  ASSERT_EQ(std::ssize(x), small.problem->registry().flat_count());
  ASSERT_GT(x.size(), 500u);
  for (size_t i = 500; i < x.size(); ++i) EXPECT_EQ(x[i], 0.0f);
  EXPECT_GT(small.problem->minimum(), 0.0);
}

TEST(Quadratic, NewtonContractsTheGapBy9Over16) {
  const Small small;
  const Result result = run(*small.ops, *small.problem, setting_of(quadratic_suite(), "Newton"), 10, 1, 7);
  ASSERT_EQ(result.points.size(), 11u);
  for (size_t i = 1; i < result.points.size(); ++i)
    EXPECT_NEAR(result.points[i].gap() / result.points[i - 1].gap(), 0.5625, 1e-3) << i;
}

// The minimum is that of the residual: there the gradient is rounding.
TEST(Quadratic, TheGapVanishesWhereTheGradientDoes) {
  const Small small;
  Setting newton = setting_of(quadratic_suite(), "Newton");
  newton.group.lr = 1.0;
  const Result result = run(*small.ops, *small.problem, newton, 3, 1, 7);
  EXPECT_LT(result.points.back().gap(), 1e-9 * result.points.front().gap());
  EXPECT_LT(result.points.back().values[3], 1e-4 * result.points.front().values[3]);  // the nuclear norm
}

// PolarGrad converges linearly with gamma = 1 / (L r), L the largest curvature and r the rank (theorem 4.3);
// with three times the largest rate that the exact factor bears it does not.
TEST(Quadratic, PolarGradConvergesAtItsRateAndDivergesBeyondTwiceIt) {
  const Small small;
  Setting exact = setting_of(quadratic_suite(), "PolarGrad, exact");
  // kappa_H L = sigma_max(A)^2 sigma_max(B)^2, here bounded by (sqrt(p) + sqrt(m))^2 (sqrt(q) + sqrt(n))^2.
  const double largest = std::pow(std::sqrt(100.0) + std::sqrt(50.0), 2) * std::pow(5.0 + std::sqrt(10.0), 2);
  exact.group.lr = 1.0 / (largest * 10.0);
  const Result converging = run(*small.ops, *small.problem, exact, 400, 50, 7);
  EXPECT_FALSE(converging.diverged);
  for (size_t i = 1; i < converging.points.size(); ++i)
    EXPECT_LT(converging.points[i].gap(), converging.points[i - 1].gap());
  EXPECT_LT(converging.points.back().gap(), 1e-3 * converging.points.front().gap());
  exact.group.lr *= 20.0;
  EXPECT_TRUE(run(*small.ops, *small.problem, exact, 400, 10, 7).diverged);
}

// The paper's own sizes: with the exact factor 3.0e-8 converges and 4e-8 does not.
TEST(Quadratic, TheExactFactorConvergesAt3e8AndNotAt4e8) {
  const auto ops = make_test_ops();
  const auto problem = make_quadratic(*ops, {}, 1);
  Setting zolo = setting_of(quadratic_suite(), "PolarGrad, ZOLO-PD");  // exact to rounding, and fast
  const Result converging = run(*ops, *problem, zolo, 30, 30, 1);
  EXPECT_LT(converging.points.back().gap(), 1e-3 * converging.points.front().gap());
  zolo.group.lr = 4e-8;
  const Result diverging = run(*ops, *problem, zolo, 30, 30, 1);
  EXPECT_TRUE(diverging.diverged || diverging.points.back().gap() > diverging.points.front().gap());
}

// Null-gradient consistency: a step that does not shrink with the gradient ends at a plateau, PolarGrad's
// does shrink.
TEST(Quadratic, MuonStaysOnAPlateauAndPolarGradDoesNot) {
  const Small small;
  Setting polargrad = setting_of(quadratic_suite(), "PolarGrad, ZOLO-PD");
  polargrad.group.lr = 1e-5;
  const Result flat =
                   run(*small.ops, *small.problem, setting_of(quadratic_suite(), "Muon, NS5"), 1000, 500, 7),
               falling = run(*small.ops, *small.problem, polargrad, 1000, 500, 7);
  EXPECT_GT(point_at(flat, 1000).gap(), 0.3 * point_at(flat, 500).gap());
  EXPECT_LT(point_at(falling, 1000).gap(), 0.3 * point_at(falling, 500).gap());
  EXPECT_LT(point_at(falling, 1000).gap(), 1e-2 * point_at(flat, 1000).gap());
}

TEST(Lab, MeasuresTenTimesAsOftenAtTheStart) {
  std::vector<int64_t> steps;
  for (int64_t step = 0; step <= 45; ++step)
    if (is_measured(step, 20, 45)) steps.push_back(step);
  EXPECT_EQ(steps.front(), 0);
  EXPECT_EQ(steps[1], 2);
  EXPECT_TRUE(is_measured(98, 20, 1000));
  EXPECT_FALSE(is_measured(102, 20, 1000));
  EXPECT_TRUE(is_measured(120, 20, 1000));
  EXPECT_EQ(steps.back(), 45);
  EXPECT_TRUE(is_measured(1, 5, 100));  // never less than every step
}

TEST(Lab, SettingsHaveNamesOfTheirOwnAndDecayAsThePaperSays) {
  for (const Suite& suite : {quadratic_suite(), logistic_suite(), completion_suite()}) {
    std::set<std::string> names;
    for (const Setting& setting : suite.settings) {
      EXPECT_TRUE(names.insert(setting.name).second) << setting.name;
      const double decay = suite.problem == "quadratic" ? 0.99 : 0.95;
      EXPECT_EQ(setting.decay, setting.name.ends_with(", decay") ? decay : 1.0) << setting.name;
      EXPECT_EQ(setting.decay_every, 25);
    }
  }
}

}  // namespace
}  // namespace polar::lab
