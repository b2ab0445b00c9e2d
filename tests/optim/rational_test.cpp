// The weights of QDWH and ZOLO-PD against published values, and all oracles against exact factors.
#include "optim/rational.h"

#include <numeric>

#include "base/error.h"
#include "matrices.h"

namespace polar::testing {
namespace {

constexpr double kEps = std::numeric_limits<double>::epsilon(),
                 kEps32 = std::numeric_limits<float>::epsilon();

// `digits` of `published` agree.
void expect_digits(double value, double published, double digits) {
  EXPECT_NEAR(value / published, 1.0, std::pow(10.0, -digits)) << published;
}

// Nakatsukasa, Bai, Gygi (2010): the weights from l = 1e-16, to the digits in which they are printed.
TEST(Qdwh, WeightsAreThePublishedOnes) {
  const std::vector<QdwhStep> steps = qdwh_steps(1e-16, 0, kEps);
  const std::vector<double> a{1.1696071e11, 4890.4261, 17.091955, 3.4040726, 3.0003452, 3.0};
  const std::vector<double> c{3.4199519e21, 5981511.3, 80.829709, 3.8489639, 3.0006905, 3.0};
  const std::vector<double> l{1.1696071e-5, 5.7152015e-2, .78236588, .99976989};
  ASSERT_EQ(steps.size(), a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    expect_digits(steps[i].a, a[i], 7);
    expect_digits(steps[i].c, c[i], 7);
    if (i < l.size()) expect_digits(steps[i].l, l[i], 7);
  }
  const std::vector<QdwhStep> single = qdwh_steps(0x1p-23, 4, kEps32);
  const std::vector<double> a32{104031.92, 47.074038, 4.1846996, 3.0055018};
  const std::vector<double> c32{2.7057119e9, 576.77828, 5.7202776, 3.0110111};
  const std::vector<double> l32{.012401094, .53713705, .99634389, .99999999923};
  ASSERT_EQ(single.size(), a32.size());
  for (size_t i = 0; i < a32.size(); ++i) {
    expect_digits(single[i].a, a32[i], 7);
    expect_digits(single[i].c, c32[i], 7);
    expect_digits(single[i].l, l32[i], 7);
  }
}

TEST(Qdwh, NeedsThePublishedNumberOfSteps) {
  for (const auto& [condition, count] : {std::pair{2.0, 3u}, {1e2, 4u}, {1e5, 5u}, {1e16, 6u}})
    EXPECT_EQ(qdwh_steps(1.0 / condition, 0, kEps).size(), count) << condition;
}

// Close to 1 its error e becomes e^3 / 64: Halley's e^3 / 4, levelled over the interval.
TEST(Qdwh, ConvergesCubically) {
  for (const double error : {0.1, 0.03, 0.01}) {
    const double next = 1.0 - qdwh_steps(1.0 - error, 1, kEps).front().l;
    EXPECT_NEAR(64.0 * next / std::pow(error, 3), 1.0, 2.0 * error) << error;
  }
}

TEST(Zolo, WeightsAreThePublishedOnes) {
  EXPECT_EQ(zolo_order(1e3), 4);
  const std::vector<ZoloStep> steps = zolo_steps(1e-3, 4);
  const std::vector<double> c{1.11863860e-6, 9.47999805e-6, 6.24990184e-5, 3.97476651e-4,
                              2.51587105e-3, 1.60002513e-2, 1.05485254e-1, 8.93943760e-1};
  const std::vector<double> a{2.91111042e-3, 1.59377523e-2, 1.00462992e-1, 6.82974371e-1};
  ASSERT_EQ(steps.front().c.size(), c.size());
  for (size_t i = 0; i < c.size(); ++i) expect_digits(steps.front().c[i], c[i], 8);
  for (size_t j = 0; j < a.size(); ++j) expect_digits(steps.front().terms[j].a, a[j], 8);
  expect_digits(steps.front().factor, .57575039, 7.5);
  expect_digits(steps.front().l, .96290229760, 10);
  // Two QDWH steps in one: 3 * 3 = 2 * 4 + 1.
  expect_digits(qdwh_steps(1e-3, 2, kEps)[1].l, .96290229760, 10);
}

// From mpmath with 60 digits. What is printed elsewhere for this case, l -> .39558, comes from doubles.
TEST(Zolo, TheSmallestIntervalCostsNoDigits) {
  const ZoloStep step = zolo_steps(1e-16, 8).front();
  expect_digits(step.c[0], 2.19479875305e-31, 11);
  expect_digits(step.c[2], 1.80921172497e-27, 11);
  expect_digits(step.c[14], 0.000496364483404, 11);
  expect_digits(step.c[15], 0.0455622639029, 11);
  expect_digits(step.factor, 0.956892697793, 11);
  expect_digits(step.l, 0.404053821196, 11);
}

TEST(Zolo, TwoStepsOfTheOrderSuffice) {
  for (const double condition : {2.0, 100.0, 1e4, 1e6, 1e9, 1e12, 1e16})
    EXPECT_NEAR(zolo_steps(1.0 / condition, zolo_order(condition)).back().l, 1.0, 5 * kEps) << condition;
}

// --- all oracles, 200 matrices a class ---

struct Matrices {
  const char* name;
  int64_t m, n;
  std::function<std::vector<double>(uint64_t)> values;  // singular values of one
  double condition;
};

std::vector<double> spread(int64_t count, double condition, uint64_t stream) {
  std::vector<double> values{1.0, 1.0 / condition};
  for (int64_t i = 2; i < count; ++i)
    values.push_back(std::pow(condition, -random_uniform(9, stream, static_cast<uint64_t>(i))));
  return values;
}

const std::vector<Matrices>& classes() {
  static const std::vector<Matrices> all{
      {"condition 10", 12, 8, [](uint64_t i) { return spread(8, 10, i); }, 10},
      {"condition 1e3", 8, 12, [](uint64_t i) { return spread(8, 1e3, i); }, 1e3},
      {"condition 1e6", 12, 8, [](uint64_t i) { return spread(8, 1e6, i); }, 1e6},
      {"condition 1e12", 12, 8, [](uint64_t i) { return spread(8, 1e12, i); }, 1e12},
      {"repeated values", 10, 10,
       [](uint64_t) { return std::vector{1., 1., 1., .5, .5, .5, .5, .1, .1, .1}; }, 10},
      {"of rank 5", 8, 12,
       [](uint64_t i) {
         auto v = spread(5, 10, i);
         v.resize(8);
         return v;
       },
       INFINITY},
      {"tall", 200, 4, [](uint64_t i) { return spread(4, 100, i); }, 100}};
  return all;
}
// Large enough for blocked algorithms and the matrix units.
const std::vector<Matrices>& large_classes() {
  static const std::vector<Matrices> all{
      {"condition 10, 200 x 136", 200, 136, [](uint64_t i) { return spread(136, 10, i); }, 10},
      {"condition 1e3, 104 x 176", 104, 176, [](uint64_t i) { return spread(104, 1e3, i); }, 1e3},
      {"condition 1e5, 200 x 136", 200, 136, [](uint64_t i) { return spread(136, 1e5, i); }, 1e5},
      {"condition 1e12, 150 x 150", 150, 150, [](uint64_t i) { return spread(150, 1e12, i); }, 1e12}};
  return all;
}

constexpr int kMatrices = 200;
constexpr int kLargeMatrices = 2;

// Of one matrix M and its factor U, with H = U^T M (M U^T where M is wide): how far from what they should be.
struct Errors {
  double orthogonality = 0.0, direction = 0.0, hermitian = 0.0, positive = 0.0, reconstruction = 0.0,
         nuclear = 0.0;
  void take(const Errors& other) {
    orthogonality = std::max(orthogonality, other.orthogonality);
    direction = std::max(direction, other.direction);
    hermitian = std::max(hermitian, other.hermitian);
    positive = std::max(positive, other.positive);
    reconstruction = std::max(reconstruction, other.reconstruction);
    nuclear = std::max(nuclear, other.nuclear);
  }
};

double dot(const double* a, const double* b, int64_t count) {
  return std::inner_product(a, a + count, b, 0.0);
}

std::vector<double> transposed(const double* x, int64_t m, int64_t n) {
  std::vector<double> out(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) out[static_cast<size_t>(j * m + i)] = x[i * n + j];
  return out;
}

// The smallest v^T H v over random unit vectors and the axes: none is negative where H is positive.
double least_form(const std::vector<double>& h, int64_t s) {
  double least = 0.0;
  for (uint64_t k = 0; k < 20; ++k) {
    std::vector<double> v = normal(77 + k, s), hv(v.size());
    for (int64_t i = 0; i < s; ++i)
      hv[static_cast<size_t>(i)] = dot(&h[static_cast<size_t>(i * s)], v.data(), s);
    least = std::min(least, dot(v.data(), hv.data(), s) / dot(v.data(), v.data(), s));
  }
  for (int64_t i = 0; i < s; ++i) least = std::min(least, h[static_cast<size_t>(i * (s + 1))]);
  return least;
}

Errors errors_of(const Matrices& c, const double* matrix, const double* factor, const double* exact,
                 const std::vector<double>& values) {
  // As if all were tall: columns of M and U as rows.
  const int64_t s = std::min(c.m, c.n), l = std::max(c.m, c.n);
  const bool tall = c.m >= c.n;
  const std::vector<double> m = tall ? transposed(matrix, c.m, c.n) : std::vector(matrix, matrix + s * l),
                            u = tall ? transposed(factor, c.m, c.n) : std::vector(factor, factor + s * l),
                            e = tall ? transposed(exact, c.m, c.n) : std::vector(exact, exact + s * l);
  const auto row = [l](const std::vector<double>& x, int64_t i) { return &x[static_cast<size_t>(i * l)]; };
  std::vector<double> h(static_cast<size_t>(s * s));
  Errors out;
  for (int64_t i = 0; i < s; ++i)
    for (int64_t j = 0; j < s; ++j) {
      h[static_cast<size_t>(i * s + j)] = dot(row(u, i), row(m, j), l);
      out.orthogonality = std::max(out.orthogonality, std::abs(dot(row(u, i), row(u, j), l) - (i == j)));
    }
  for (int64_t i = 0; i < s; ++i)
    for (int64_t j = 0; j < s; ++j)
      out.hermitian = std::max(
          out.hermitian, std::abs(h[static_cast<size_t>(i * s + j)] - h[static_cast<size_t>(j * s + i)]));
  out.positive = -least_form(h, s);
  for (int64_t j = 0; j < s; ++j)
    for (int64_t k = 0; k < l; ++k) {
      double sum = 0.0;
      for (int64_t i = 0; i < s; ++i) sum += h[static_cast<size_t>(i * s + j)] * row(u, i)[k];
      out.reconstruction = std::max(out.reconstruction, std::abs(sum - row(m, j)[k]));
      out.direction = std::max(out.direction, std::abs(row(u, j)[k] - row(e, j)[k]));
    }
  const double nuclear = std::accumulate(values.begin(), values.end(), 0.0);
  out.nuclear = std::abs(dot(u.data(), m.data(), s * l) / nuclear - 1.0);
  return out;
}

// The worst over `count` matrices of a class; the largest singular value of each is 1.
template <class T>
Errors worst_errors(const OracleConfig& config, const Matrices& c, uint64_t count = kMatrices) {
  const int64_t s = std::min(c.m, c.n), size = c.m * c.n;
  std::vector<double> batch, exact;
  std::vector<std::vector<double>> values;
  for (uint64_t i = 0; i < count; ++i) {
    const auto left = orthonormal(100 + 2 * i, c.m, s), right = orthonormal(101 + 2 * i, c.n, s);
    values.push_back(c.values(i));
    std::vector<double> ones = values.back();
    for (double& v : ones) v = v > 0.0 ? 1.0 : 0.0;
    const std::vector<double> x = compose(left, values.back(), right), u = compose(left, ones, right);
    for (const double v : x) batch.push_back(static_cast<double>(static_cast<T>(v)));
    exact.insert(exact.end(), u.begin(), u.end());
  }
  const std::vector<double> u = run_oracle<T>(config, c.m, c.n, batch);
  Errors worst;
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i)
    worst.take(errors_of(c, &batch[static_cast<size_t>(i * size)], &u[static_cast<size_t>(i * size)],
                         &exact[static_cast<size_t>(i * size)], values[static_cast<size_t>(i)]));
  return worst;
}

OracleConfig oracle_of(OracleKind kind, int64_t steps = 0) {
  OracleConfig config;
  config.kind = kind;
  config.steps = steps;
  return config;
}

// What these oracles give is a backward stable factor: U is orthogonal and M = U H to some 50 eps, whatever
// the condition; U itself is off by the condition number of M times that.
template <class T>
void expect_backward_stable(OracleKind kind, const std::vector<Matrices>& matrices = classes(),
                            uint64_t count = kMatrices) {
  const double eps = std::numeric_limits<T>::epsilon(), bound = 50 * eps;
  for (const Matrices& c : matrices) {
    SCOPED_TRACE(c.name);
    const Errors worst = worst_errors<T>(oracle_of(kind), c, count);
    // Values beneath the format's precision are noise: they may come out as anything in [0, 1].
    if (c.condition < 0.1 / eps) {
      EXPECT_LE(worst.orthogonality, bound);
      EXPECT_LE(worst.direction, bound * c.condition);
    }
    EXPECT_LE(worst.hermitian, bound);
    EXPECT_LE(worst.positive, bound);
    EXPECT_LE(worst.reconstruction, bound);
    EXPECT_LE(worst.nuclear, bound);
  }
}

TEST(Oracles, QdwhIsBackwardStableInDouble) {
  expect_backward_stable<double>(OracleKind::qdwh);
}
TEST(Oracles, QdwhIsBackwardStableInSingle) {
  expect_backward_stable<float>(OracleKind::qdwh);
}
TEST(Oracles, ZoloIsBackwardStableInDouble) {
  expect_backward_stable<double>(OracleKind::zolo_pd);
}
TEST(Oracles, ZoloIsBackwardStableInSingle) {
  expect_backward_stable<float>(OracleKind::zolo_pd);
}
TEST(Oracles, RationalOraclesAreBackwardStableOnLargeMatrices) {
  for (const OracleKind kind : {OracleKind::qdwh, OracleKind::zolo_pd}) {
    SCOPED_TRACE(static_cast<int>(kind));
    expect_backward_stable<float>(kind, large_classes(), kLargeMatrices);
  }
}

TEST(Oracles, SvdIsBackwardStableInDouble) {
  expect_backward_stable<double>(OracleKind::svd);
}
TEST(Oracles, SvdIsBackwardStableInSingle) {
  expect_backward_stable<float>(OracleKind::svd);
}

// The eigenvalues of the square are off by eps times the largest, that is by eps times the square of the
// condition of the smallest.
template <class T>
void expect_square_of_condition() {
  const double eps = std::numeric_limits<T>::epsilon();
  for (const Matrices& c : classes()) {
    SCOPED_TRACE(c.name);
    const double bound = 50 * eps * c.condition * c.condition;
    if (!(bound < 0.05)) continue;
    const Errors worst = worst_errors<T>(oracle_of(OracleKind::gram_eigh), c);
    for (const double error : {worst.orthogonality, worst.direction, worst.hermitian, worst.positive,
                               worst.reconstruction, worst.nuclear})
      EXPECT_LE(error, bound);
  }
}
TEST(Oracles, GramEighLosesTheSquareOfTheConditionInDouble) {
  expect_square_of_condition<double>();
}
TEST(Oracles, GramEighLosesTheSquareOfTheConditionInSingle) {
  expect_square_of_condition<float>();
}

TEST(Oracles, GramEighLeavesOutWhatIsNotThere) {
  const std::vector<double> u =
      run_oracle<double>(oracle_of(OracleKind::gram_eigh), 3, 2, {3, 0, 0, 0, 4, 0});
  EXPECT_LE(relative_difference(u, {0.6, 0, 0, 0, 0.8, 0}), 1e-14);  // of rank 1
}

// A given number of steps takes singular values where the scalar function goes, converged or not.
TEST(Oracles, TwoStepsOfQdwhTakeValuesWhereTheirScalarsGo) {
  const std::vector<double> values{1.0, 0.3, 1e-2, 1e-4};
  const auto left = orthonormal(1, 9, 4), right = orthonormal(2, 4, 4);
  OracleConfig config = oracle_of(OracleKind::qdwh, 2);
  config.condition = 1e6;
  std::vector<double> expected;
  for (double x : values) {
    x /= norm(values);
    for (const QdwhStep& step : qdwh_steps(1e-6, 2, kEps))
      x *= (step.a + step.b * x * x) / (1 + step.c * x * x);
    expected.push_back(x);
  }
  EXPECT_LT(*std::min_element(expected.begin(), expected.end()), 0.9);
  const std::vector<double> u = run_oracle<double>(config, 9, 4, compose(left, values, right));
  EXPECT_LE(relative_difference(u, compose(left, expected, right)), 1e-11);
}

// What the PolarGrad authors call QDWH with 2 steps: from l_0 = 2^-23, then x (3 - x^2) / 2. The image of
// these values under their code is .746, .781, .729 and 1 (normalised so that they are what goes in).
TEST(Oracles, RefinementOfQdwhIsOneCubicStep) {
  const std::vector<double> values{1.0, 0.3, 1e-2, 1e-4};
  const auto left = orthonormal(1, 9, 4), right = orthonormal(2, 4, 4);
  OracleConfig config = oracle_of(OracleKind::qdwh, 2);
  config.condition = 0x1p23;
  config.refine = true;
  const auto image = [](double x) {
    for (const QdwhStep& step : qdwh_steps(0x1p-23, 2, kEps))
      x *= (step.a + step.b * x * x) / (1 + step.c * x * x);
    return x * (3 - x * x) / 2;
  };
  const std::vector<double> published{1.0, 0.729, 0.781, 0.746};
  std::vector<double> expected;
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_NEAR(image(values[i]), published[i], 1e-3) << values[i];
    expected.push_back(image(values[i] / norm(values)));
  }
  const std::vector<double> u = run_oracle<double>(config, 9, 4, compose(left, values, right));
  EXPECT_LE(relative_difference(u, compose(left, expected, right)), 1e-11);
}

// Two steps are not converged, so the normalisation is seen: here sqrt(||x||_1 ||x||_inf), by hand.
TEST(Oracles, QdwhNormalisesByTheBoundOfTheNormWhereAsked) {
  OracleConfig config = oracle_of(OracleKind::qdwh, 1);
  config.condition = 1e6;
  config.norm_bound = true;
  const QdwhStep step = qdwh_steps(1e-6, 1, kEps).front();
  // Diagonal: columns sum to 3 and 4, rows to 3, 4 and 0; both norms are 4.
  const auto image = [&](double x) { return x * (step.a + step.b * x * x) / (1 + step.c * x * x); };
  EXPECT_LE(relative_difference(run_oracle<double>(config, 3, 2, {3, 0, 0, -4, 0, 0}),
                                {image(0.75), 0, 0, -image(1.0), 0, 0}),
            1e-12);
  EXPECT_EQ(run_oracle<double>(config, 3, 2, std::vector<double>(6, 0.0)), std::vector<double>(6, 0.0));
  config.kind = OracleKind::zolo_pd;
  EXPECT_THROW(Oracle{config}, Error);
}

// --- what is hard ---

const std::vector<OracleKind>& exact_kinds() {
  static const std::vector<OracleKind> all{OracleKind::qdwh, OracleKind::zolo_pd, OracleKind::gram_eigh,
                                           OracleKind::svd};
  return all;
}

TEST(Oracles, ScaleDoesNotMatter) {
  const auto left = orthonormal(1, 6, 4), right = orthonormal(2, 4, 4);
  const std::vector<double> values{1.0, 0.7, 0.5, 0.2};
  const std::vector<double> exact = compose(left, {1, 1, 1, 1}, right);
  for (const OracleKind kind : exact_kinds())
    for (const double scale : {1e-30, 1.0, 1e30}) {
      std::vector<double> x = compose(left, values, right);
      for (double& v : x) v *= scale;
      EXPECT_LE(relative_difference(run_oracle<float>(oracle_of(kind), 6, 4, x), exact), 1e-5)
          << static_cast<int>(kind) << ", " << scale;
    }
}

TEST(Oracles, ZeroStaysZero) {
  for (const OracleKind kind : exact_kinds())
    EXPECT_EQ(run_oracle<float>(oracle_of(kind), 3, 5, std::vector<double>(30)), std::vector<double>(30));
}

TEST(Oracles, ARowAndAColumnBecomeUnitVectors) {
  const std::vector<double> x{3, 0, -4, 12}, unit{3. / 13, 0, -4. / 13, 12. / 13};
  for (const OracleKind kind : exact_kinds())
    for (const auto& [m, n] : {std::pair<int64_t, int64_t>{1, 4}, {4, 1}})
      EXPECT_LE(relative_difference(run_oracle<float>(oracle_of(kind), m, n, x), unit), 1e-6)
          << static_cast<int>(kind);
}

// The bound: 50 eps of a norm of 1, where the largest element of the factor is some 0.04.
TEST(Oracles, LongMatricesAreTaken) {
  constexpr double kBound = 50 * kEps32 / 0.04;
  const int64_t l = 10'240, s = 3;
  const auto left = orthonormal(1, l, s), right = orthonormal(2, s, s);
  const std::vector<double> x = compose(left, {5, 2, 1}, right), exact = compose(left, {1, 1, 1}, right);
  for (const OracleKind kind : exact_kinds()) {
    EXPECT_LE(relative_difference(run_oracle<float>(oracle_of(kind), l, s, x), exact), kBound)
        << static_cast<int>(kind);
    EXPECT_LE(relative_difference(run_oracle<float>(oracle_of(kind), s, l, transposed(x.data(), l, s)),
                                  transposed(exact.data(), l, s)),
              kBound)
        << static_cast<int>(kind);
  }
}

TEST(Oracles, NanIsReported) {
  for (const OracleKind kind : exact_kinds())
    for (const double bad : {std::nan(""), static_cast<double>(INFINITY)})
      EXPECT_THROW(run_oracle<float>(oracle_of(kind), 2, 3, {1, 2, 3, 4, bad, 6}), Error)
          << static_cast<int>(kind);
}

// --- polynomials: singular vectors stay, values become those of the scalar polynomials ---

TEST(Oracles, PolynomialsTakeValuesWhereTheirScalarsGo) {
  for (const OracleKind kind : {OracleKind::newton_schulz, OracleKind::polar_express}) {
    const OracleConfig config = oracle_of(kind, 5);
    const Oracle oracle(config);
    for (const Matrices& c : classes()) {
      SCOPED_TRACE(c.name);
      const int64_t s = std::min(c.m, c.n);
      std::vector<double> batch, expected;
      for (uint64_t i = 0; i < kMatrices; ++i) {
        const auto left = orthonormal(100 + 2 * i, c.m, s), right = orthonormal(101 + 2 * i, c.n, s);
        std::vector<double> values = c.values(i);
        const std::vector<double> x = compose(left, values, right);
        const double divisor = (kind == OracleKind::polar_express ? 1.01 : 1.0) * norm(values) + 1e-7;
        for (double& v : values) {
          v /= divisor;
          for (const auto& [a, b, e] : oracle.quintics()) v *= a + v * v * (b + v * v * e);
        }
        const std::vector<double> u = compose(left, values, right);
        batch.insert(batch.end(), x.begin(), x.end());
        expected.insert(expected.end(), u.begin(), u.end());
      }
      EXPECT_LE(relative_difference(run_oracle<double>(config, c.m, c.n, batch), expected), 1e-11);
    }
  }
}

}  // namespace
}  // namespace polar::testing
