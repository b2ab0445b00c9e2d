// Diagnostics against the step that was really made, and against matrices whose singular values are known.
#include "matrices.h"

namespace polar::testing {
namespace {

double nuclear_norm(const std::vector<double>& x, int64_t m, int64_t n) {
  OracleConfig exact;
  exact.kind = OracleKind::svd;
  const auto u = run_oracle<double>(exact, m, n, x);
  double inner = 0.0;
  for (size_t i = 0; i < x.size(); ++i) inner += u[i] * x[i];
  return inner;
}

struct Form {
  MomentumConfig momentum;
  double neuron_beta;
};

// Rate and size of the update are those of the change that the parameter saw, whatever the momentum's form;
// the norm is that of what the formulas say the oracle sees.
TEST(Diagnosis, IsOfTheStepThatWasMade) {
  constexpr double kBeta = 0.9, kScale = 0.5;
  const Form forms[] = {
      {{MomentumKind::first, kBeta, false}, 0.0},       {{MomentumKind::first, kBeta, true}, 0.9},
      {{MomentumKind::polar_first, kBeta, false}, 0.0}, {{MomentumKind::polar_first, kBeta, true}, 0.0},
      {{MomentumKind::heavy_ball, kBeta, false}, 0.0},  {{MomentumKind::heavy_ball, kBeta, true}, 0.0},
      {{MomentumKind::none, 0.0, false}, 0.9},          {{MomentumKind::lion, kBeta, false}, 0.0}};
  for (const auto& [momentum, neuron_beta] : forms)
    for (const OracleKind oracle : {OracleKind::svd, OracleKind::polar_express}) {
      Harness<double> harness(one_matrix_group([&](GroupConfig& group) {
                                group.momentum = momentum;
                                group.momentum.interpolation = 0.8;
                                group.oracle.kind = oracle;
                                group.neuron_beta = neuron_beta;
                                group.scale.alpha = 0.5;
                              }),
                              {{"other", {8, 12}}, {"w", {8, 12}}});
      std::vector<double> m(96), before;
      for (uint64_t step = 0; step < 4; ++step) {
        const auto g = normal(50 + step, 96);
        harness.set_gradient("other", normal(60 + step, 96));
        harness.set_gradient("w", g);
        before = harness.get("w");
        harness.step(kScale);
        std::vector<double> seen(96);
        for (size_t i = 0; i < 96; ++i) {
          const double gradient = kScale * g[i];
          const double gain = momentum.kind == MomentumKind::heavy_ball ? 1.0 : 1.0 - kBeta, old = m[i];
          m[i] = kBeta * m[i] + gain * gradient;
          seen[i] = momentum.nesterov ? kBeta * m[i] + gain * gradient : m[i];
          if (momentum.kind == MomentumKind::none || momentum.kind == MomentumKind::polar_first)
            seen[i] = gradient;
          if (momentum.kind == MomentumKind::lion) seen[i] = 0.8 * old + 0.2 * gradient;
        }
        const auto found = harness.diagnose("w");
        ASSERT_TRUE(found);
        EXPECT_NEAR(found->nuclear / nuclear_norm(seen, 8, 12), 1.0, 1e-7);
        std::vector<double> change = harness.get("w");
        for (size_t i = 0; i < 96; ++i) change[i] -= before[i];
        EXPECT_NEAR(found->update_rms / (norm(change) / std::sqrt(96.0)), 1.0, 1e-9);
        EXPECT_NEAR(found->effective_lr / (0.02 * std::sqrt(found->inner)), 1.0, 1e-12);
        if (oracle == OracleKind::svd) {
          EXPECT_NEAR(found->inner / found->nuclear, 1.0, 1e-7);
          EXPECT_LE(found->orthogonality, 1e-14);
        } else {
          EXPECT_GT(found->orthogonality, 1e-3);
        }
      }
    }
}

TEST(Diagnosis, SpectraOfKnownMatrices) {
  const std::vector<double> values{100, 10, 3, 1e-3};
  const Spectrum spectrum(1);
  for (const double size : {1e-30, 1.0, 1e30})
    for (const auto& [m, n] : {std::pair<int64_t, int64_t>{4, 30}, {30, 4}}) {
      std::vector<double> x = compose(orthonormal(1, m, 4), values, orthonormal(2, n, 4));
      for (double& v : x) v *= size;
      const auto found = spectrum.singular_values(x, m, n);
      for (size_t i = 0; i < 4; ++i)
        EXPECT_NEAR(found[i] / (size * values[i]), 1.0, i < 3 ? 1e-9 : 1e-4) << i;
    }
  std::vector<double> zero(12), low = compose(orthonormal(1, 5, 1), {2.0}, orthonormal(2, 3, 1));
  EXPECT_EQ(spectrum.singular_values(zero, 3, 4), std::vector<double>(3));
  EXPECT_EQ(spectrum.singular_values(low, 5, 3)[1], 0.0);
}

TEST(Diagnosis, ThereIsNoneOfWhatHasNoFactor) {
  Harness<float> harness(one_matrix_group([](GroupConfig& group) { group.oracle.kind = OracleKind::sign; }),
                         {{"w", {4, 4}}});
  harness.step();
  EXPECT_FALSE(harness.diagnose("w"));
  EXPECT_FALSE(harness.diagnose("unknown"));
}

}  // namespace
}  // namespace polar::testing
