// The completion problem of the lab: gradients by both factors, and how methods do on it.
#include <cmath>

#include "base/error.h"
#include "small.h"

namespace polar::lab {
namespace {

constexpr CompletionSizes kSmall{.m = 60, .n = 40, .rank = 3, .share = 0.6};

struct Small {
  std::unique_ptr<Ops> ops = make_test_ops();
  std::unique_ptr<Problem> problem = make_completion(*ops, kSmall, 3);
};

// The value is a polynomial of degree two in each element: its central difference is its derivative exactly.
TEST(Completion, GradientsAreTheDerivativeOfTheValue) {
  const Small small;
  const std::vector<float> x = small.problem->start();
  const std::vector<float> gradient = gradient_at(*small.problem, *small.ops, x);
  const auto y = static_cast<size_t>(small.problem->registry()[1].offset);
  for (const size_t i : {size_t{0}, size_t{100}, size_t{179}, y, y + 50, y + 119})
    EXPECT_NEAR(static_cast<double>(gradient[i]), slope_at(*small.problem, x, i, 0.25f), 1e-6) << i;
}

TEST(Completion, MeasuresTheNuclearNormOfTheGradients) {
  const Small small;
  const std::vector<float> x = small.problem->start();
  std::vector<float> gradient = gradient_at(*small.problem, *small.ops, x);
  for (const auto& [index, name] : {std::pair{0, "x"}, std::pair{1, "y"}}) {
    const Parameter& parameter = small.problem->registry()[index];
    const Tensor batch{
        gradient.data() + parameter.offset, DType::f32, {1, parameter.shape[0], parameter.shape[1]}};
    std::vector<double> workspace(
        small.ops->polar_svd_workspace(1, batch.shape[1], batch.shape[2], DType::f32) / 8 + 64);
    std::vector<float> factor(static_cast<size_t>(parameter.count()));
    std::vector<double> values(3);
    const auto aligned = (reinterpret_cast<uintptr_t>(workspace.data()) + 255) / 256 * 256;
    small.ops->polar_svd(batch, {factor.data(), DType::f32, batch.shape},
                         {reinterpret_cast<double*>(aligned), DType::f64, {std::ssize(workspace) - 32}},
                         {values.data(), DType::f64, {1, 3}});
    EXPECT_NEAR(value_of(*small.problem, x, std::string("gradient_nuclear_norm_") + name) /
                    (values[0] + values[1] + values[2]),
                1.0, 1e-5);
    EXPECT_NEAR(
        value_of(*small.problem, x, std::string("gradient_condition_") + name) / (values[0] / values[2]), 1.0,
        1e-4);
  }
}

// Two parameters, one group: both are optimized, and the value at the truth is the rounding of M.
TEST(Completion, PolarGradAndAlternatingDescentReachTheFloorAndMuonDoesNot) {
  const Small small;
  const Suite suite = completion_suite();
  Setting polargrad = setting_of(suite, "PolarGrad, momentum first"),
          descent = setting_of(suite, "Alternating gradient descent");
  polargrad.group.lr = descent.group.lr = 10.0;
  const Result polar = run(*small.ops, *small.problem, polargrad, 400, 100, 3),
               reference = run(*small.ops, *small.problem, descent, 400, 100, 3),
               muon = run(*small.ops, *small.problem, setting_of(suite, "Muon, NS5"), 400, 100, 3);
  EXPECT_LT(polar.points.back().gap(), 1e-12);
  EXPECT_LT(reference.points.back().gap(), 1e-12);
  EXPECT_GT(muon.points.back().gap(), 1e-6);
}

TEST(Completion, RefusesWhatCannotBe) {
  const auto ops = make_test_ops();
  EXPECT_THROW(make_completion(*ops, {.m = 4, .n = 4, .rank = 5, .share = 0.5}, 1), Error);
  EXPECT_THROW(make_completion(*ops, {.m = 4, .n = 4, .rank = 2, .share = 0.0}, 1), Error);
  EXPECT_THROW(make_completion(*ops, {.m = 1, .n = 1, .rank = 1, .share = 1e-9}, 1), Error);
}

}  // namespace
}  // namespace polar::lab
