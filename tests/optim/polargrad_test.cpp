// PolarGrad: its momentum forms against the formulas (tools/reference/optimizers.py), and its scaling laws.
#include "harness.h"

namespace polar::testing {
namespace {

OracleConfig exact() {
  OracleConfig oracle;
  oracle.kind = OracleKind::svd;
  return oracle;
}

// Converged polynomials: the same factor by another way, through other buffers.
OracleConfig converged() {
  OracleConfig oracle;
  oracle.kind = OracleKind::polar_express;
  oracle.steps = 14;
  return oracle;
}

OptimizerConfig polargrad(MomentumConfig momentum, double alpha, const OracleConfig& oracle,
                          double decay = 0.0) {
  return one_matrix_group([&](GroupConfig& group) {
    group.momentum = momentum;
    group.oracle = oracle;
    group.scale = {ScaleKind::nuclear, alpha, 1.0};
    group.weight_decay = decay;
  });
}

template <class T>
void expect_formulas(const OracleConfig& oracle, double tolerance) {
  struct Case {
    std::string name;
    MomentumConfig momentum;
    double alpha;
  };
  const std::vector<Case> cases = {
      {"first", {MomentumKind::first, 0.9, false}, 1.0},
      {"first_nesterov", {MomentumKind::first, 0.9, true}, 1.0},
      {"first_half", {MomentumKind::first, 0.9, false}, 0.5},
      {"polar_first", {MomentumKind::polar_first, 0.9, false}, 1.0},
      {"polar_first_nesterov", {MomentumKind::polar_first, 0.9, true}, 1.0},
      {"heavy_ball", {MomentumKind::heavy_ball, 0.9, false}, 1.0},
      {"heavy_ball_nesterov", {MomentumKind::heavy_ball, 0.9, true}, 0.5},
      {"none", {MomentumKind::none, 0.9, false}, 1.0},
  };
  const Golden golden("polargrad.safetensors");
  for (const Case& c : cases) {
    Harness<T> harness(polargrad(c.momentum, c.alpha, oracle, 0.1), golden.parameters());
    golden.run(harness);
    std::map<std::string, std::string> states;
    if (c.momentum.kind != MomentumKind::none) states["matrix.momentum"] = ".momentum";
    golden.compare(harness, c.name, tolerance, states);
  }
}

TEST(PolarGrad, FormsEqualTheFormulasWithTheExactFactor) {
  expect_formulas<double>(exact(), 1e-12);
}
TEST(PolarGrad, FormsEqualTheFormulasWithConvergedPolynomials) {
  expect_formulas<double>(converged(), 1e-9);
}
TEST(PolarGrad, FormsEqualTheFormulasInSingle) {
  expect_formulas<float>(exact(), 1e-5);
  expect_formulas<float>(converged(), 1e-5);
}

// W after three steps from 0 whose gradients are c times those of c = 1.
std::vector<double> after_scaled_gradients(const OptimizerConfig& config, double c,
                                           double gradient_scale = 1.0) {
  Harness<double> harness(config, {{"w", {9, 5}}});
  for (uint64_t step = 0; step < 3; ++step) {
    harness.set_gradient("w", normal(step, 45, c));
    harness.step(gradient_scale);
  }
  return harness.get("w");
}

std::vector<double> times(std::vector<double> x, double factor) {
  for (double& v : x) v *= factor;
  return x;
}

const std::vector<MomentumKind> kKinds = {MomentumKind::first, MomentumKind::polar_first,
                                          MomentumKind::heavy_ball, MomentumKind::none};

// update(c G) = c^alpha update(G); c is large so that the 1e-7 added to the norm plays no part.
TEST(PolarGrad, IsHomogeneousOfDegreeAlpha) {
  for (const MomentumKind kind : kKinds)
    for (const double alpha : {0.0, 0.25, 1.0}) {
      OracleConfig oracle;  // also true of an oracle that has not converged
      oracle.steps = 3;
      const OptimizerConfig config = polargrad({kind, 0.9, false}, alpha, oracle);
      const std::vector<double> one = after_scaled_gradients(config, 1e4);
      const std::vector<double> scaled = after_scaled_gradients(config, 3e4);
      EXPECT_LE(relative_difference(scaled, times(one, std::pow(3.0, alpha))), 1e-9) << alpha;
      EXPECT_GT(norm(one), 1e-3);
    }
}

// Clipping enters once, before the momentum, whatever the form: a gradient scale of 1/4 is a gradient of 1/4.
TEST(PolarGrad, ClippingEqualsSmallerGradients) {
  for (const MomentumKind kind : kKinds)
    for (const bool nesterov : {false, true}) {
      if (kind == MomentumKind::none && nesterov) continue;
      const OptimizerConfig config = polargrad({kind, 0.9, nesterov}, 1.0, exact());
      EXPECT_LE(relative_difference(after_scaled_gradients(config, 1.0, 0.25),
                                    after_scaled_gradients(config, 0.25)),
                1e-14);
    }
}

TEST(PolarGrad, HeavyBallIsFirstWithASmallerRate) {
  OptimizerConfig heavy = polargrad({MomentumKind::heavy_ball, 0.9, false}, 1.0, exact());
  const OptimizerConfig first = polargrad({MomentumKind::first, 0.9, false}, 1.0, exact());
  heavy.groups[0].lr *= 1.0 - 0.9;
  EXPECT_LE(relative_difference(after_scaled_gradients(heavy, 1.0), after_scaled_gradients(first, 1.0)),
            1e-13);
}

// One step without momentum on a diagonal matrix is sign descent scaled by the l1 norm.
TEST(PolarGrad, IsScaledSignDescentOnADiagonalMatrix) {
  Harness<double> harness(polargrad({MomentumKind::none, 0.0, false}, 1.0, exact()), {{"w", {3, 3}}});
  harness.set_gradient("w", {0.5, 0, 0, 0, -2.0, 0, 0, 0, 0.25});
  harness.step();
  const double step = 0.02 * 2.75;
  EXPECT_LE(relative_difference(harness.get("w"), {-step, 0, 0, 0, step, 0, 0, 0, -step}), 1e-14);
}

// Null-gradient consistency, and a zero matrix does no harm.
TEST(PolarGrad, AZeroGradientGivesNoStep) {
  for (const OracleConfig& oracle : {exact(), converged()})
    for (const MomentumKind kind : kKinds) {
      Harness<double> harness(polargrad({kind, 0.9, false}, 1.0, oracle), {{"w", {4, 6}}});
      harness.set("w", normal(1, 24));
      harness.step();
      EXPECT_EQ(harness.get("w"), normal(1, 24));
    }
}

}  // namespace
}  // namespace polar::testing
