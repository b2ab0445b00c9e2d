// What can be added to the matrix rules (NorMuon, heads, cautious decay, momentum warm-up, preconditioning)
// and the rules with a sign or nothing in the factor's place, each against its formula.
#include "base/error.h"
#include "matrices.h"

namespace polar::testing {
namespace {

using Parameters = std::vector<std::pair<std::string, Shape>>;

OracleConfig oracle_of(OracleKind kind) {
  OracleConfig oracle;
  oracle.kind = kind;
  return oracle;
}

double rms(const std::vector<double>& x) {
  return norm(x) / std::sqrt(static_cast<double>(x.size()));
}

// Every head by itself is what separate parameters are, bit for bit; what has no heads stays whole.
TEST(Heads, AreMatricesOfTheirOwn) {
  const OptimizerConfig config = one_matrix_group([](GroupConfig& group) {
    group.per_head = true;
    group.neuron_beta = 0.9;
    group.scale.kind = ScaleKind::rms_match;
  });
  Harness<float> heads(config, {{"q", {12, 10}}, {"up", {12, 10}}}, 1, {{"q", 3}});
  Harness<float> parts(config, {{"a", {4, 10}}, {"b", {4, 10}}, {"c", {4, 10}}, {"up", {12, 10}}});
  const auto part = [](const std::vector<double>& all, int64_t i) {
    return std::vector<double>(all.begin() + i * 40, all.begin() + (i + 1) * 40);
  };
  const char* names[] = {"a", "b", "c"};
  const auto start = normal(1, 120);
  heads.set("q", start);
  for (int64_t i = 0; i < 3; ++i) parts.set(names[i], part(start, i));
  for (uint64_t step = 0; step < 3; ++step) {
    const auto gradient = normal(10 + step, 120), other = normal(20 + step, 120);
    heads.set_gradient("q", gradient);
    heads.set_gradient("up", other);
    parts.set_gradient("up", other);
    for (int64_t i = 0; i < 3; ++i) parts.set_gradient(names[i], part(gradient, i));
    heads.step();
    parts.step();
  }
  EXPECT_EQ(heads.get("up"), parts.get("up"));
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(part(heads.get("q"), i), parts.get(names[i]));
    EXPECT_EQ(part(heads.state().at("matrix.momentum:q"), i),
              parts.state().at(std::string("matrix.momentum:") + names[i]));
  }
  EXPECT_EQ(heads.state().at("matrix.neurons:q").size(), 30u);  // 3 heads, wide: a neuron a column
}

// NorMuon's update of the exact factor, in loops of its own.
void expect_normuon(int64_t m, int64_t n) {
  constexpr double kBeta = 0.95, kRate = 0.02;
  Harness<double> harness(one_matrix_group([](GroupConfig& group) {
                            group.momentum.kind = MomentumKind::none;
                            group.oracle.kind = OracleKind::svd;
                            group.scale.kind = ScaleKind::none;
                            group.neuron_beta = kBeta;
                          }),
                          {{"w", {m, n}}});
  std::vector<double> want(static_cast<size_t>(m * n)), second(static_cast<size_t>(std::max(m, n)));
  for (uint64_t step = 0; step < 3; ++step) {
    const auto gradient = normal(30 + step, m * n);
    harness.set_gradient("w", gradient);
    harness.step();
    std::vector<double> u = run_oracle<double>(oracle_of(OracleKind::svd), m, n, gradient);
    const double before = norm(u);
    for (int64_t k = 0; k < std::max(m, n); ++k) {
      std::vector<size_t> places;
      for (int64_t j = 0; j < std::min(m, n); ++j)
        places.push_back(static_cast<size_t>(m >= n ? k * n + j : j * n + k));
      double mean = 0.0;
      for (const size_t i : places) mean += u[i] * u[i] / static_cast<double>(places.size());
      double& s = second[static_cast<size_t>(k)];
      s = kBeta * s + (1.0 - kBeta) * mean;
      for (const size_t i : places) u[i] /= std::sqrt(std::max(s, 1e-10));
    }
    const double after = norm(u);
    for (size_t i = 0; i < want.size(); ++i) want[i] -= kRate * u[i] * before / after;
  }
  EXPECT_LE(relative_difference(harness.get("w"), want), 1e-12);
  EXPECT_LE(relative_difference(harness.state().at("matrix.neurons:w"), second), 1e-12);
}
TEST(NorMuon, IsItsFormula) {
  expect_normuon(9, 4);
  expect_normuon(4, 9);
  expect_normuon(5, 5);
}

// Neurons of very different sizes come out even: in the first step all have the same norm.
TEST(NorMuon, EvensOutTheNeurons) {
  Harness<float> harness(one_matrix_group([](GroupConfig& group) {
                           group.momentum.kind = MomentumKind::none;
                           group.neuron_beta = 0.95;
                         }),
                         {{"w", {64, 16}}});
  auto gradient = normal(1, 64 * 16);
  for (size_t i = 0; i < gradient.size(); ++i) gradient[i] *= static_cast<double>(1 + i / 16);
  harness.set_gradient("w", gradient);
  harness.step();
  const auto w = harness.get("w");
  for (int64_t row = 0; row < 64; ++row)
    EXPECT_NEAR(rms({w.begin() + row * 16, w.begin() + (row + 1) * 16}) / rms(w), 1.0, 1e-5) << row;
}

TEST(CautiousDecay, LeavesWhatTheStepDrivesAway) {
  for (const bool adamw : {false, true}) {
    Harness<double> harness(one_matrix_group([&](GroupConfig& group) {
                              group.type = adamw ? GroupType::adamw : GroupType::matrix;
                              group.momentum.kind = MomentumKind::none;
                              group.oracle.kind = OracleKind::sign;
                              group.scale.kind = ScaleKind::none;
                              group.lr = 0.1;
                              group.weight_decay = 0.5;
                              group.eps = 1e-300;
                              group.cautious_decay = true;
                            }),
                            {{"w", {1, 4}}});
    harness.set("w", {2, 2, -2, -2});
    harness.set_gradient("w", {3, -3, 3, -3});
    harness.step();
    // Towards zero: (1 - .05) 2 - .1; away from it: 2 + .1.
    EXPECT_LE(relative_difference(harness.get("w"), {1.8, 2.1, -2.1, -1.8}), 1e-12) << adamw;
  }
}

TEST(MomentumWarmUp, GoesLinearlyToBeta) {
  for (const MomentumKind kind :
       {MomentumKind::first, MomentumKind::heavy_ball, MomentumKind::polar_first, MomentumKind::lion}) {
    Harness<double> harness(one_matrix_group([&](GroupConfig& group) {
                              group.momentum.kind = kind;
                              group.momentum.warmup_steps = 4;
                              group.momentum.warmup_beta = 0.5;
                              group.momentum.beta = 0.9;
                              group.oracle.kind = OracleKind::identity;
                              group.scale.kind = ScaleKind::none;
                            }),
                            {{"w", {1, 1}}});
    double m = 0.0;
    const double betas[] = {0.5, 0.6, 0.7, 0.8, 0.9, 0.9};
    for (size_t step = 0; step < 6; ++step) {
      const double gradient = 1.0 + static_cast<double>(step);
      harness.set_gradient("w", {gradient});
      harness.step();
      m = betas[step] * m + (kind == MomentumKind::heavy_ball ? 1.0 : 1.0 - betas[step]) * gradient;
      EXPECT_NEAR(harness.state().at("matrix.momentum:w")[0], m, 1e-12) << step;
    }
  }
}

// Vectors and matrices; the norm in the normalised form is that of the whole parameter.
TEST(SignSgd, IsItsFormulaNormalisedAndNot) {
  const Parameters parameters{{"w", {3, 5}}, {"v", {7}}};
  for (const bool normalised : {false, true}) {
    Harness<float> harness(one_matrix_group([&](GroupConfig& group) {
                             group.momentum.kind = MomentumKind::none;
                             group.oracle.kind = OracleKind::sign;
                             group.scale.kind = normalised ? ScaleKind::nuclear : ScaleKind::none;
                           }),
                           parameters);
    for (const auto& [name, shape] : parameters) {
      auto gradient = normal(stream_of(name.data(), name.size()), shape.count());
      gradient[2] = 0.0;
      harness.set_gradient(name, gradient);
      harness.step();
      double sum = 0.0;
      for (const double g : gradient) sum += std::abs(g);
      std::vector<double> want;
      for (const double g : gradient)
        want.push_back(-0.02 * (normalised ? sum : 1.0) * (g > 0 ? 1.0 : g < 0 ? -1.0 : 0.0));
      EXPECT_LE(relative_difference(harness.get(name), want), 1e-6) << name;
      harness.set_gradient(name, std::vector<double>(gradient.size(), 0.0));
    }
  }
}

TEST(Variants, NonsenseIsRefused) {
  ParameterRegistry registry;
  registry.add("w", Role::matrix, {4, 4});
  registry.add("v", Role::norm, {4});
  const auto make = [&](const std::function<void(GroupConfig&)>& change) {
    OptimizerConfig config = one_matrix_group(change);
    return Optimizer(config, {}, registry, 10, DType::f32);
  };
  const auto sign = [](GroupConfig& group) { group.oracle.kind = OracleKind::sign; };
  EXPECT_NO_THROW(make(sign));
  EXPECT_THROW(make([](GroupConfig&) {}), Error);  // the vector
  EXPECT_THROW(make([&](GroupConfig& g) { sign(g), g.neuron_beta = 0.9; }), Error);
  EXPECT_THROW(make([&](GroupConfig& g) { sign(g), g.oracle.preconditioning = "aol"; }), Error);
  EXPECT_THROW(make([&](GroupConfig& g) { sign(g), g.neuron_beta = 1.0; }), Error);
  EXPECT_THROW(make([&](GroupConfig& g) { sign(g), g.momentum = {MomentumKind::lion, 0.9, true}; }), Error);
  EXPECT_THROW(
      make([&](GroupConfig& g) { sign(g), g.momentum.warmup_steps = 3, g.momentum.warmup_beta = 1; }), Error);
}

// The factor of a preconditioned matrix is that of the matrix with its short side scaled; no singular value
// is above 1 after it, and fewer steps reach the same orthogonality.
TEST(Preconditioning, IsTheFactorOfTheScaledMatrix) {
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{12, 20}, {20, 12}, {12, 60}, {60, 12}, {12, 12}}) {
    const auto x = normal(static_cast<uint64_t>(m), m * n);
    const int64_t s = std::min(m, n), l = std::max(m, n);
    const auto at = [&](const std::vector<double>& a, int64_t i, int64_t k) {
      return a[static_cast<size_t>(m <= n ? i * n + k : k * n + i)];
    };
    std::vector<double> scaled = x;
    for (int64_t i = 0; i < s; ++i) {
      double sum = 0.0;
      for (int64_t j = 0; j < s; ++j) {
        double inner = 0.0;
        for (int64_t k = 0; k < l; ++k) inner += at(x, i, k) * at(x, j, k);
        sum += std::abs(inner);
      }
      for (int64_t k = 0; k < l; ++k)
        scaled[static_cast<size_t>(m <= n ? i * n + k : k * n + i)] /= std::sqrt(sum);
    }
    OracleConfig converged = oracle_of(OracleKind::polar_express);
    converged.steps = 12;
    converged.preconditioning = "aol";
    EXPECT_LE(relative_difference(run_oracle<double>(converged, m, n, x),
                                  run_oracle<double>(oracle_of(OracleKind::svd), m, n, scaled)),
              1e-12)
        << m << " x " << n;
  }
}

double orthogonality_error(const std::vector<double>& u, int64_t rows, int64_t cols) {
  double squares = 0.0;
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < rows; ++j) {
      double inner = i == j ? -1.0 : 0.0;
      for (int64_t k = 0; k < cols; ++k)
        inner += u[static_cast<size_t>(i * cols + k)] * u[static_cast<size_t>(j * cols + k)];
      squares += inner * inner;
    }
  return std::sqrt(squares);
}
TEST(Preconditioning, SavesAStep) {
  const auto x = normal(3, 48 * 64);
  OracleConfig config = oracle_of(OracleKind::newton_schulz);
  config.coefficients = "classical_quintic";
  config.steps = 6;
  const double plain = orthogonality_error(run_oracle<double>(config, 48, 64, x), 48, 64);
  config.preconditioning = "aol";
  config.steps = 5;
  EXPECT_LE(orthogonality_error(run_oracle<double>(config, 48, 64, x), 48, 64), plain);
}

TEST(Preconditioning, ZeroRowsStayZero) {
  auto x = normal(4, 6 * 9);
  std::fill(x.begin() + 9, x.begin() + 18, 0.0);
  OracleConfig config = oracle_of(OracleKind::polar_express);
  config.preconditioning = "aol";
  const auto u = run_oracle<float>(config, 6, 9, x);
  for (size_t i = 0; i < u.size(); ++i) {
    EXPECT_TRUE(std::isfinite(u[i]));
    if (i >= 9 && i < 18) {
      EXPECT_EQ(u[i], 0.0);
    }
  }
  for (const double value : run_oracle<float>(config, 6, 9, std::vector<double>(54))) EXPECT_EQ(value, 0.0);
}

}  // namespace
}  // namespace polar::testing
