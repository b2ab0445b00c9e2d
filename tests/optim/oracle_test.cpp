// Oracles: the coefficients of Polar Express against the published lists, and the maps that the iterations
// make of singular values against the scalar polynomials.
#include "optim/oracle.h"

#include "base/error.h"
#include "matrices.h"

namespace polar::testing {
namespace {

void expect_equal_lists(const std::vector<Quintic>& computed, const std::vector<Quintic>& published) {
  ASSERT_EQ(computed.size(), published.size());
  for (size_t i = 0; i < published.size(); ++i)
    for (size_t j = 0; j < 3; ++j) EXPECT_NEAR(computed[i][j], published[i][j], 1e-10) << "step " << i + 1;
}

// arXiv 2505.16932, the authors' list, before the safety division.
TEST(PolarExpress, EqualsThePublishedList) {
  std::vector<Quintic> list = polar_express_quintics({.lower_bound = 1e-3, .steps = 7});
  expect_equal_lists(list, {{8.28721201814563, -23.595886519098837, 17.300387312530933},
                            {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
                            {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
                            {3.3184196573706015, -2.488488024314874, 0.51004894012372},
                            {2.300652019954817, -1.6689039845747493, 0.4188073119525673},
                            {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
                            {1.8750014808534479, -1.2500016453999487, 0.3750001645474248}});
  // From the eighth step on the list is the classical quintic.
  list = polar_express_quintics({.lower_bound = 1e-3, .steps = 10});
  for (size_t i = 7; i < 10; ++i) {
    EXPECT_NEAR(list[i][0], 1.875, 1e-8);
    EXPECT_NEAR(list[i][1], -1.25, 1e-8);
    EXPECT_NEAR(list[i][2], 0.375, 1e-8);
  }
}

// The list of the nanogpt speedruns: another cushion, safety inside the recursion.
TEST(PolarExpress, EqualsTheSpeedrunList) {
  expect_equal_lists(
      polar_express_quintics({.lower_bound = 1e-3, .steps = 5, .cushion = 0.02, .safety = 1.02}),
      {{8.156554524902461, -22.48329292557795, 15.878769915207462},
       {4.042929935166739, -2.808917465908714, 0.5000178451051316},
       {3.8916678022926607, -2.772484153217685, 0.5060648178503393},
       {3.285753657755655, -2.3681294933425376, 0.46449024233003106},
       {2.3465413258596377, -1.7097828382687081, 0.42323551169305323}});
}

double value(const Quintic& p, double x) {
  return x * (p[0] + x * x * (p[1] + x * x * p[2]));
}

// For any lower bound the composition brings [l, 1] around 1, and the more so the more steps it has.
TEST(PolarExpress, BringsTheIntervalAroundOne) {
  for (const double lower : {1e-6, 1e-4, 0.3}) {
    double previous = 1.0;
    for (const int64_t steps : {6, 10, 14}) {
      const auto list = polar_express_quintics({.lower_bound = lower, .steps = steps});
      double worst = 0.0;
      for (int i = 0; i <= 1000; ++i) {
        double x = std::pow(lower, i / 1000.0);
        for (const Quintic& p : list) x = value(p, x);
        worst = std::max(worst, std::abs(1.0 - x));
      }
      EXPECT_LE(worst, previous);
      previous = worst;
    }
    EXPECT_LE(previous, lower < 1e-5 ? 1e-3 : 1e-12) << lower;
  }
}

OracleConfig newton_schulz(const char* coefficients, int64_t steps) {
  OracleConfig config;
  config.kind = OracleKind::newton_schulz;
  config.coefficients = coefficients;
  config.steps = steps;
  return config;
}

OracleConfig polar_express(int64_t steps) {
  OracleConfig config;
  config.kind = OracleKind::polar_express;
  config.steps = steps;
  return config;
}

// Singular values from 1e-4 to 1, at no special place.
std::vector<double> spectrum(int64_t count, uint64_t stream) {
  std::vector<double> values = {1.0, 1e-4};
  for (int64_t i = 2; i < count; ++i) values.push_back(std::pow(10.0, -4.0 * random_uniform(3, stream, i)));
  return values;
}

// The scalar truth: normalise, then apply the polynomials.
std::vector<double> mapped(const OracleConfig& config, const std::vector<double>& values, double safety) {
  const Oracle oracle(config);
  std::vector<double> result;
  for (double x : values) {
    x /= safety * norm(values) + 1e-7;
    for (const Quintic& p : oracle.quintics()) x = value(p, x);
    result.push_back(x);
  }
  return result;
}

// The result must be left diag(p(values)) right^T as a whole: its singular vectors stay, its values are p's.
template <class T>
void expect_map(const OracleConfig& config, double safety, double tolerance) {
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{9, 9}, {23, 9}, {9, 23}, {64, 33}}) {
    const int64_t s = std::min(m, n);
    std::vector<double> batch, expected;
    for (const uint64_t stream : {1, 2}) {
      const auto left = orthonormal(stream, m, s), right = orthonormal(stream + 2, n, s);
      const std::vector<double> values = spectrum(s, stream);
      const std::vector<double> x = compose(left, values, right);
      const std::vector<double> u = compose(left, mapped(config, values, safety), right);
      batch.insert(batch.end(), x.begin(), x.end());
      expected.insert(expected.end(), u.begin(), u.end());
    }
    EXPECT_LE(relative_difference(run_oracle<T>(config, m, n, batch), expected), tolerance)
        << m << " x " << n;
  }
}

template <class T>
void expect_maps(double tolerance) {
  for (const char* name : {"jordan", "quintic5", "classical_quintic", "classical_cubic"})
    for (const int64_t steps : {1, 5, 8}) expect_map<T>(newton_schulz(name, steps), 1.0, tolerance);
  for (const int64_t steps : {1, 2, 5, 9}) expect_map<T>(polar_express(steps), 1.01, tolerance);
}

TEST(Oracle, MapsSingularValuesAsTheScalarPolynomialsInDouble) {
  expect_maps<double>(1e-10);
}
// In single precision the rounding of the input alone, 6e-8, is amplified by up to 1 / (smallest value) =
// 1e4.
TEST(Oracle, MapsSingularValuesAsTheScalarPolynomialsInSingle) {
  expect_maps<float>(6e-4);
}

TEST(Oracle, OwnCoefficientsAreUsedInTheirOrder) {
  OracleConfig config = newton_schulz("jordan", 3);
  config.custom = {{2.0, -1.5, 0.5}, {1.5, -0.5, 0.0}};
  EXPECT_EQ(Oracle(config).quintics(),
            (std::vector<Quintic>{{2.0, -1.5, 0.5}, {1.5, -0.5, 0.0}, {1.5, -0.5, 0.0}}));
  expect_map<double>(config, 1.0, 1e-12);
}

TEST(Oracle, SvdIsExact) {
  OracleConfig config;
  config.kind = OracleKind::svd;
  const auto left = orthonormal(1, 12, 5), right = orthonormal(2, 5, 5);
  std::vector<double> batch = compose(left, {3.0, 1.0, 0.5, 1e-3, 1e-6}, right);
  std::vector<double> expected = compose(left, {1, 1, 1, 1, 1}, right);
  const std::vector<double> singular = compose(left, {2.0, 1.0, 0.5, 0.25, 0.0}, right);
  const std::vector<double> singular_factor = compose(left, {1, 1, 1, 1, 0}, right);
  batch.insert(batch.end(), singular.begin(), singular.end());
  expected.insert(expected.end(), singular_factor.begin(), singular_factor.end());
  EXPECT_LE(relative_difference(run_oracle<double>(config, 12, 5, batch), expected), 1e-9);
}

// The published share of the nuclear norm that five steps reach on a Gaussian matrix: 0.979 for Polar
// Express, 0.857 for Jordan's quintic (600 x 150; the mean over singular values depends little on the draw).
TEST(Oracle, ReachesThePublishedShareOfTheNuclearNorm) {
  const int64_t m = 600, n = 150;
  std::vector<double> batch = normal(11, 2 * m * n);
  const auto inner = [&](const std::vector<double>& u) {
    double sum = 0.0;
    for (size_t i = 0; i < u.size(); ++i) sum += u[i] * batch[i];
    return sum;
  };
  const double nuclear = inner(run_oracle<float>(newton_schulz("classical_quintic", 12), m, n, batch));
  EXPECT_NEAR(inner(run_oracle<float>(polar_express(5), m, n, batch)) / nuclear, 0.979, 0.01);
  EXPECT_NEAR(inner(run_oracle<float>(newton_schulz("jordan", 5), m, n, batch)) / nuclear, 0.857, 0.02);
}

TEST(Oracle, RefusesNonsense) {
  EXPECT_THROW(Oracle(newton_schulz("jordan", 0)), Error);
  EXPECT_THROW(Oracle(newton_schulz("jorden", 5)), Error);
  OracleConfig config = polar_express(5);
  config.lower_bound = 0.0;
  EXPECT_THROW(Oracle{config}, Error);
}

// Symmetric products at half the work: 15 q + 5 and, for long matrices, 6 q + 23 times s^3.
TEST(Oracle, FlopsAreThoseOfTheFormThatIsComputed) {
  OracleConfig config;
  config.kind = OracleKind::newton_schulz;
  const Oracle oracle(config);
  EXPECT_DOUBLE_EQ(oracle.flops(64, 64), 20.0 * 64 * 64 * 64);
  EXPECT_DOUBLE_EQ(oracle.flops(64, 128), 35.0 * 64 * 64 * 64);
  EXPECT_DOUBLE_EQ(oracle.flops(64, 256), 47.0 * 64 * 64 * 64);
  EXPECT_DOUBLE_EQ(oracle.flops(256, 64), oracle.flops(64, 256));
  config.kind = OracleKind::svd;
  EXPECT_EQ(Oracle(config).flops(64, 64), 0.0);
}

}  // namespace
}  // namespace polar::testing
