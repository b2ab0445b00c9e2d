// The oracles that factor matrices, on the CUDA backend: against exact factors and against the CPU backend.
#include "optim/oracle.h"

#include "base/error.h"
#include "cuda/both.h"
#include "cuda/orders.h"
#include "optim/matrices.h"

namespace polar::cuda::test {
namespace {

constexpr double kEps = std::numeric_limits<float>::epsilon();

OracleConfig oracle_of(OracleKind kind) {
  OracleConfig config;
  config.kind = kind;
  config.steps = 0;
  return config;
}

struct Matrices {
  const char* name;
  int64_t batch, m, n;
  Values values;  // singular values; fewer than min(m, n): the others are 0

  int64_t small() const { return std::min(m, n); }
  bool full_rank() const { return std::ssize(values) == small(); }
  double condition() const { return values.front() / values.back(); }
};

const Matrices kMatrices[] = {{"tall", 3, 12, 8, {1, .9, .7, .5, .4, .3, .2, .1}},
                              {"wide", 3, 8, 12, {1, .9, .7, .5, .4, .3, .2, .1}},
                              {"square", 3, 9, 9, {1, 1, 1, .5, .5, .5, .1, .1, .1}},
                              {"condition 1e3", 2, 7, 5, {1, .3, .1, .03, 1e-3}},
                              {"condition 1e6", 2, 5, 7, {1, .3, 1e-2, 1e-4, 1e-6}},
                              {"of rank 3", 2, 6, 8, {1, .5, .2}},
                              {"a row", 2, 1, 40, {3}},
                              {"a column", 2, 40, 1, {3}},
                              {"long", 1, 600, 4, {1, .7, .4, .05}}};

// A batch of such matrices, rounded to f32, and their exact factors.
struct Problem {
  Values matrices, factors;
};
Problem problem_of(const Matrices& c) {
  Problem out;
  for (int64_t i = 0; i < c.batch; ++i) {
    const auto left = testing::orthonormal(static_cast<uint64_t>(100 + 2 * i), c.m, c.small());
    const auto right = testing::orthonormal(static_cast<uint64_t>(101 + 2 * i), c.n, c.small());
    for (const double v : testing::compose(left, c.values, right))
      out.matrices.push_back(rounded_to(DType::f32, v));
    const Values u = testing::compose(left, Values(c.values.size(), 1.0), right);
    out.factors.insert(out.factors.end(), u.begin(), u.end());
  }
  return out;
}

// <row i of a, row j of b> of (rows, cols) matrices, or of their columns if they are tall.
double inner(const Matrices& c, const double* a, int64_t i, const double* b, int64_t j) {
  const bool tall = c.m > c.n;
  double sum = 0.0;
  for (int64_t k = 0; k < std::max(c.m, c.n); ++k)
    sum += tall ? a[k * c.n + i] * b[k * c.n + j] : a[i * c.n + k] * b[j * c.n + k];
  return sum;
}

// What backward stability says of a factor U of M: U is orthogonal, H = U^T M symmetric and its trace the
// nuclear norm, each to some 50 eps, as on the CPU (tests/optim/rational_test.cpp).
void expect_factor(const Matrices& c, const double* matrix, const double* factor, double bound) {
  double orthogonality = 0.0, hermitian = 0.0, nuclear = 0.0;
  for (int64_t i = 0; i < c.small(); ++i)
    for (int64_t j = 0; j < c.small(); ++j) {
      orthogonality = std::max(orthogonality, std::abs(inner(c, factor, i, factor, j) - (i == j)));
      hermitian =
          std::max(hermitian, std::abs(inner(c, factor, i, matrix, j) - inner(c, factor, j, matrix, i)));
      nuclear += i == j ? inner(c, factor, i, matrix, i) : 0.0;
    }
  double want = 0.0;
  for (const double v : c.values) want += v;
  if (c.full_rank()) {
    EXPECT_LE(orthogonality, bound);
  }
  EXPECT_LE(hermitian, bound * c.values.front());
  EXPECT_LE(std::abs(nuclear / want - 1.0), bound);
}

// `bound`: of backward stability; the factor itself is off by as much times the condition.
void expect_agreement(Both& both, OracleKind kind, const Matrices& c, double bound) {
  SCOPED_TRACE(c.name);
  const Problem problem = problem_of(c);
  const Values got = testing::run_oracle<float>(both.cuda, oracle_of(kind), c.m, c.n, problem.matrices);
  for (int64_t i = 0; i < c.batch; ++i)
    expect_factor(c, &problem.matrices[size_t(i * c.m * c.n)], &got[size_t(i * c.m * c.n)], bound);
  if (!c.full_rank()) return;  // what lies in directions that are not there is noise
  const double direction = bound * c.condition();
  expect_within(got, problem.factors, direction, "exact");
  const Values cpu = testing::run_oracle<float>(both.cpu, oracle_of(kind), c.m, c.n, problem.matrices);
  expect_within(got, cpu, 2.0 * direction, "CPU");
}

TEST(CudaOracles, QdwhIsBackwardStable) {
  Both both;
  for (const Matrices& c : kMatrices) expect_agreement(both, OracleKind::qdwh, c, 50 * kEps);
}

TEST(CudaOracles, ZoloIsBackwardStable) {
  Both both;
  for (const Matrices& c : kMatrices) expect_agreement(both, OracleKind::zolo_pd, c, 50 * kEps);
}

// The eigenvalues of the square are off by eps times the largest: by eps times the square of the condition of
// the smallest.
TEST(CudaOracles, GramEighLosesTheSquareOfTheCondition) {
  Both both;
  for (const Matrices& c : kMatrices) {
    const double bound = 50 * kEps * c.condition() * c.condition();
    if (bound < 0.05) expect_agreement(both, OracleKind::gram_eigh, c, bound);
  }
}

constexpr OracleKind kKinds[] = {OracleKind::qdwh, OracleKind::zolo_pd, OracleKind::gram_eigh,
                                 OracleKind::svd};

TEST(CudaOracles, ScaleDoesNotMatter) {
  Both both;
  const Matrices c{"", 1, 6, 4, {1.0, .7, .5, .2}};
  const Problem problem = problem_of(c);
  for (const OracleKind kind : kKinds)
    for (const double scale : {1e-30, 1e30}) {
      Values x = problem.matrices;
      for (double& v : x) v *= scale;
      expect_within(testing::run_oracle<float>(both.cuda, oracle_of(kind), c.m, c.n, x), problem.factors,
                    50 * kEps * c.condition() * c.condition(),
                    fmt::format("oracle {}, {}", static_cast<int>(kind), scale));
    }
}

TEST(CudaOracles, ZeroStaysZero) {
  Both both;
  for (const OracleKind kind : kKinds)
    EXPECT_EQ(testing::run_oracle<float>(both.cuda, oracle_of(kind), 3, 5, Values(30)), Values(30));
}

TEST(CudaOracles, NaNIsReported) {
  Both both;
  for (const OracleKind kind : kKinds)
    for (const double bad : {std::nan(""), static_cast<double>(INFINITY)})
      EXPECT_THROW(testing::run_oracle<float>(both.cuda, oracle_of(kind), 2, 3, {1, 2, 3, 4, bad, 6}), Error)
          << static_cast<int>(kind);
}

TEST(CudaOracles, SameBitsInAnyOrder) {
  const Matrices c{"", 2, 40, 70, Values(40, 1.0)};
  const Problem problem = problem_of(c);
  for (const OracleKind kind : {OracleKind::qdwh, OracleKind::zolo_pd, OracleKind::gram_eigh})
    expect_same_bits_in_every_order("factor", [&] {
      Both both;
      return testing::run_oracle<float>(both.cuda, oracle_of(kind), c.m, c.n, problem.matrices);
    });
}

// Runs `work`, which makes `result`, again and again.
void expect_repeated(Both& both, const Pair& result, const std::function<void()>& work) {
  const auto repeated = both.cuda.repeat(work);
  repeated->run();
  const Values once = both.read_cuda(result);
  for (int i = 0; i < 2; ++i) {
    both.write(result, Values(once.size(), 7.0));
    repeated->run();
    EXPECT_EQ(both.read_cuda(result), once);
  }
}

// What waits for the host is never made part of a graph: repeated work goes on giving what it gave.
TEST(CudaOracles, RepeatedWorkIsDoneAgain) {
  Both both;
  const Pair x = both.random(DType::f32, {2, 6, 4}, 1), y = both.zeros(DType::f32, {2, 6, 4});
  const Pair a = both.zeros(DType::f32, {2, 4, 4}), p = both.zeros(DType::f32, {2, 4, 4});
  both.cuda.polar_gram(x.cuda, a.cuda);
  const Pair memory = both.workspace(8, both.cuda.polar_resolvent_workspace(2, 6, 4, DType::f32)),
             other = both.workspace(8, both.cuda.symmetric_power_workspace(2, 4, DType::f32));
  for (const Factorization by : {Factorization::cholesky, Factorization::qr})
    expect_repeated(both, y, [&] { both.cuda.polar_resolvent({x.cuda, y.cuda, 2.0, 1.0, by, memory.cuda}); });
  expect_repeated(both, p, [&] { both.cuda.symmetric_power(a.cuda, 0.5, p.cuda, other.cuda); });
}

}  // namespace
}  // namespace polar::cuda::test
