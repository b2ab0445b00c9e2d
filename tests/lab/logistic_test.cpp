// The logistic problem of the lab: gradient, mini-batches, and a minimum that nobody has written down.
#include <cmath>

#include "base/error.h"
#include "small.h"

namespace polar::lab {
namespace {

constexpr LogisticSizes kSmall{.rows = 400, .m = 20, .n = 6, .q = 30, .batch = 50};

struct Small {
  std::unique_ptr<Ops> ops = make_test_ops();
  std::unique_ptr<Problem> problem = make_logistic(*ops, kSmall, 3);
};

// Away from the start, where most logits are large and most slopes 0 or 1.
std::vector<float> somewhere(const Problem& problem) {
  std::vector<float> x = problem.start();
  for (float& value : x) value *= 0.1f;
  return x;
}

// Over many mini-batches the mean of the gradients is the whole one, but for the share of the rows; that one
// is the derivative of the value.
TEST(Logistic, GradientsAverageToTheDerivativeOfTheValue) {
  const Small small;
  const std::vector<float> x = somewhere(*small.problem);
  constexpr int kBatches = 4000;
  constexpr size_t kElements = 20 * 6;
  std::vector<double> mean(kElements), squares(kElements);
  for (int step = 0; step < kBatches; ++step) {
    const std::vector<float> gradient = gradient_at(*small.problem, *small.ops, x, step);
    for (size_t i = 0; i < kElements; ++i) {
      const double value = static_cast<double>(gradient[i]) * 400.0 / 50.0;
      mean[i] += value / kBatches;
      squares[i] += value * value / kBatches;
    }
  }
  for (size_t i = 0; i < kElements; ++i) {
    const double error = std::sqrt((squares[i] - mean[i] * mean[i]) / kBatches);
    EXPECT_NEAR(mean[i], slope_at(*small.problem, x, i, 1e-2f), 5.0 * error + 1e-2) << i;
  }
}

// A mini-batch as large as all rows, of a problem with one row only, is the whole function: no chance is
// left.
TEST(Logistic, GradientIsTheDerivativeOfTheValue) {
  const auto ops = make_test_ops();
  const auto problem = make_logistic(*ops, {.rows = 1, .m = 1, .n = 6, .q = 30, .batch = 1}, 5);
  std::vector<float> x = problem->start();
  for (float& value : x) value *= 0.3f;
  const std::vector<float> gradient = gradient_at(*problem, *ops, x);
  for (size_t i = 0; i < 6; ++i)
    EXPECT_NEAR(static_cast<double>(gradient[i]), slope_at(*problem, x, i, 1e-2f),
                2e-3 * std::abs(static_cast<double>(gradient[i])) + 2e-3)
        << i;
}

TEST(Logistic, MiniBatchesAreAFunctionOfSeedAndStep) {
  const Small small, again;
  const std::vector<float> x = somewhere(*small.problem);
  const std::vector<float> first = gradient_at(*small.problem, *small.ops, x, 17);
  gradient_at(*small.problem, *small.ops, x, 18);
  EXPECT_EQ(gradient_at(*small.problem, *small.ops, x, 17), first);
  EXPECT_EQ(gradient_at(*again.problem, *again.ops, x, 17), first);
  EXPECT_NE(gradient_at(*small.problem, *small.ops, x, 18), first);
  const auto other = make_logistic(*again.ops, kSmall, 4);
  EXPECT_NE(gradient_at(*other, *again.ops, x, 17), first);
}

// No run gets below the minimum that is found, and Adam comes close to it with a rate that falls.
TEST(Logistic, TheMinimumIsOne) {
  const Small small;
  const double first = gap_at(*small.problem, small.problem->start());
  Setting adam = setting_of(logistic_suite(), "Adam, decay");
  adam.group.lr = 0.05;
  const Result result = run(*small.ops, *small.problem, adam, 2000, 500, 3);
  for (const Point& point : result.points) EXPECT_GT(point.gap(), 0.0) << point.step;
  EXPECT_LT(result.points.back().gap(), 1e-3 * first);
  EXPECT_NE(small.problem->minimum_by().find("steps of descent"), std::string::npos);
  EXPECT_EQ(small.problem->minimum_by().find("may be lower"), std::string::npos);
}

// Labels that can be told apart have no minimum, which is said.
TEST(Logistic, SaysWhereThereIsNoMinimum) {
  const auto ops = make_test_ops();
  const auto problem = make_logistic(*ops, {.rows = 4, .m = 4, .n = 5, .q = 5, .batch = 2}, 1);
  EXPECT_NE(problem->minimum_by().find("may be lower"), std::string::npos);
  EXPECT_THROW(make_logistic(*ops, {.rows = 3, .m = 4, .n = 5, .q = 5, .batch = 2}, 1), Error);
  EXPECT_FALSE(problem->reference_step({}, 1.0));
  Setting newton = setting_of(quadratic_suite(), "Newton");
  EXPECT_THROW(run(*ops, *problem, newton, 1, 1, 1), Error);
}

TEST(Logistic, FarFromTheMinimumNothingOverflows) {
  const Small small;
  std::vector<float> x = small.problem->start();
  for (float& value : x) value *= 1e6f;
  for (const double value : small.problem->measure(x)) EXPECT_TRUE(std::isfinite(value));
  for (const float value : gradient_at(*small.problem, *small.ops, x)) EXPECT_TRUE(std::isfinite(value));
}

}  // namespace
}  // namespace polar::lab
