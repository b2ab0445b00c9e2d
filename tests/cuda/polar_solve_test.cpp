// The resolvent of the rational polar iterations and powers of symmetric matrices on the CUDA backend,
// against the CPU backend.
#include <gmock/gmock.h>

#include "base/error.h"
#include "cuda/both.h"
#include "cuda/orders.h"
#include "errors.h"

namespace polar::cuda::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct MatrixShape {
  int64_t batch, m, n;
  int64_t small() const { return std::min(m, n); }
  int64_t large() const { return std::max(m, n); }
  Shape shape() const { return {batch, m, n}; }
  std::string text() const { return fmt::format("{} x {} x {}", batch, m, n); }
};
// Vectors, tall, wide and square; less than a tile, several with a ragged end, whole ones.
const MatrixShape kShapes[] = {{1, 1, 1},    {3, 1, 40},   {3, 40, 1},  {3, 7, 5},   {3, 5, 7},  {3, 33, 20},
                               {2, 20, 100}, {1, 100, 70}, {2, 48, 48}, {3, 64, 32}, {1, 32, 96}};

constexpr double kUnit = 0x1p-24;  // of rounding in f32

double norm_of(const Values& values, size_t begin, size_t count) {
  double sum = 0.0;
  for (size_t i = begin; i < begin + count; ++i) sum += values[i] * values[i];
  return std::sqrt(sum);
}

struct Weights {
  double scale, shift;
  Factorization by;
};

// What the result y of one matrix x may be off by in the Frobenius norm. The rounding errors of the l + 3 s
// terms that an element of a factor is summed from add up like their root (Higham, Mary 2019); 8 for the
// constants. Cholesky: those of Z = shift I + scale x^T x, of its factor and of two solutions, times Z's
// condition. QR: those of Q, times the condition of [x; I], which is the root of that; of Q1 Q2^T either
// factor has a norm of up to sqrt(s), and is then divided by sqrt(scale shift).
double bound_of(const MatrixShape& s, const Weights& w, double x_norm, double y_norm) {
  const double terms = static_cast<double>(s.large() + 3 * s.small()), unit = 8.0 * std::sqrt(terms) * kUnit;
  const double condition = 1.0 + w.scale * x_norm * x_norm / w.shift;
  if (w.by == Factorization::cholesky) return unit * condition * y_norm;
  return unit * std::sqrt(condition * static_cast<double>(s.small()) / (w.scale * w.shift));
}

Pair resolvent_workspace(Both& both, const MatrixShape& s) {
  return both.workspace(both.cpu.polar_resolvent_workspace(s.batch, s.m, s.n, DType::f64),
                        both.cuda.polar_resolvent_workspace(s.batch, s.m, s.n, DType::f32));
}

// The truth is the CPU's QR form in f64.
void expect_resolvent(const MatrixShape& s, const Weights& w) {
  SCOPED_TRACE(fmt::format("{}, scale {}, shift {}", s.text(), w.scale, w.shift));
  Both both;
  // Norms of some 1, as the iterations have them.
  const Pair x = both.random(DType::f32, s.shape(), 1, 1.0 / std::sqrt(double(s.m * s.n)));
  const Values values = both.read_cpu(x);
  const Pair exact = both.make(DType::f64, s.shape(), values), want = both.zeros(DType::f64, s.shape());
  const Pair y = both.constant(DType::f32, s.shape(), 7.0), workspace = resolvent_workspace(both, s);
  both.cpu.polar_resolvent({exact.cpu, want.cpu, w.scale, w.shift, Factorization::qr, workspace.cpu});
  both.cuda.polar_resolvent({x.cuda, y.cuda, w.scale, w.shift, w.by, workspace.cuda});
  const Values right = both.read_cpu(want);
  Values difference = both.read_cuda(y);
  for (size_t i = 0; i < right.size(); ++i) difference[i] -= right[i];
  const auto count = static_cast<size_t>(s.m * s.n);
  for (size_t i = 0; i < right.size(); i += count)
    EXPECT_LE(norm_of(difference, i, count),
              bound_of(s, w, norm_of(values, i, count), norm_of(right, i, count)))
        << "matrix " << i / count << ", norm " << norm_of(right, i, count);
  EXPECT_EQ(both.read_cuda(x), values) << "x is an input";
}

TEST(CudaPolarSolve, ResolventByCholesky) {
  for (const MatrixShape& s : kShapes)
    for (const auto& [scale, shift] : {std::pair{3.0, 1.0}, {80.0, 1.0}, {1.0, 0.1}})
      expect_resolvent(s, {scale, shift, Factorization::cholesky});
}

TEST(CudaPolarSolve, ResolventByQr) {
  for (const MatrixShape& s : kShapes)
    for (const auto& [scale, shift] : {std::pair{3.0, 1.0}, {600.0, 1.0}, {1e4, 1.0}, {1.0, 1e-3}})
      expect_resolvent(s, {scale, shift, Factorization::qr});
}

// Both forms of matrices without full rank, and of zero: what is not there gives 0.
TEST(CudaPolarSolve, ResolventOfMatricesWithoutFullRank) {
  for (const Factorization by : {Factorization::cholesky, Factorization::qr}) {
    Both both;
    const MatrixShape s{3, 6, 4};
    Values values = both.read_cpu(both.random(DType::f32, s.shape(), 1));
    for (size_t i = 0; i < 6; ++i) values[4 * i + 1] = values[4 * i];  // two equal columns
    for (size_t i = 0; i < 6; ++i) values[24 + 4 * i + 2] = 0.0;       // one of zeros
    std::fill_n(values.begin() + 48, 24, 0.0);                         // nothing else
    const Pair x = both.make(DType::f32, s.shape(), values), y = both.constant(DType::f32, s.shape(), 7.0);
    const Pair workspace = resolvent_workspace(both, s);
    both.cuda.polar_resolvent({x.cuda, y.cuda, 2.0, 1.0, by, workspace.cuda});
    const Values got = both.read_cuda(y);
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_NEAR(got[4 * i + 1], got[4 * i], 8.0 * 18.0 * kUnit);
      EXPECT_EQ(got[24 + 4 * i + 2], 0.0);
    }
    EXPECT_EQ(Values(got.begin() + 48, got.end()), Values(24, 0.0));
  }
}

TEST(CudaPolarSolve, ResolventReportsNaNBeforeItWritesAnything) {
  for (const Factorization by : {Factorization::cholesky, Factorization::qr})
    for (const double bad : {std::nan(""), static_cast<double>(INFINITY)})
      for (const MatrixShape& s : {MatrixShape{2, 6, 4}, {2, 4, 6}}) {
        Both both;
        Values values = both.read_cpu(both.random(DType::f32, s.shape(), 1));
        values[30] = bad;
        const Pair x = both.make(DType::f32, s.shape(), values),
                   y = both.constant(DType::f32, s.shape(), 7.0);
        const Pair workspace = resolvent_workspace(both, s);
        EXPECT_THAT(
            polar::test::message_of([&] {
              both.cuda.polar_resolvent({x.cuda, y.cuda, 1.0, 1.0, by, workspace.cuda});
            }),
            AllOf(HasSubstr("polar_resolvent"), HasSubstr("a matrix of [2, "), HasSubstr("NaN or infinity")));
        EXPECT_EQ(both.read_cuda(y), Values(48, 7.0));
      }
}

// Finite, but the square is not: there is no factor, and nothing is written.
TEST(CudaPolarSolve, ResolventReportsAnOverflow) {
  Both both;
  const MatrixShape s{2, 6, 4};
  const Pair x = both.random(DType::f32, s.shape(), 1, 1e30), y = both.constant(DType::f32, s.shape(), 7.0);
  const Pair workspace = resolvent_workspace(both, s);
  EXPECT_THROW(both.cuda.polar_resolvent({x.cuda, y.cuda, 1.0, 1.0, Factorization::cholesky, workspace.cuda}),
               Error);
  EXPECT_EQ(both.read_cuda(y), Values(48, 7.0));
}

TEST(CudaPolarSolve, ResolventRefusesViolatedContracts) {
  Both both;
  const MatrixShape s{2, 6, 4};
  const Pair x = both.random(DType::f32, s.shape(), 1), y = both.zeros(DType::f32, s.shape());
  const Pair rough = both.zeros(DType::bf16, s.shape()), workspace = resolvent_workspace(both, s);
  const Pair little =
      both.workspace(8, both.cuda.polar_resolvent_workspace(s.batch, s.m, s.n, DType::f32) - 4);
  const auto run = [&](const Pair& from, const Pair& to, double shift, const Pair& memory) {
    both.cuda.polar_resolvent({from.cuda, to.cuda, 1.0, shift, Factorization::qr, memory.cuda});
  };
  EXPECT_THROW(run(x, x, 1.0, workspace), Error);
  EXPECT_THROW(run(x, y, 0.0, workspace), Error);
  EXPECT_THROW(run(rough, rough, 1.0, workspace), Error);
  EXPECT_THAT(polar::test::message_of([&] { run(x, y, 1.0, little); }), HasSubstr("workspace too small"));
  EXPECT_NO_THROW(run(x, y, 1.0, workspace));
}

// The last matrix of a batch of equal ones.
Values resolvent_of(Factorization by, int64_t batch, int64_t m, int64_t n) {
  Both both;
  const Values one = both.read_cpu(both.random(DType::f32, {m, n}, 3, 0.1));
  Values all;
  for (int64_t i = 0; i < batch; ++i) all.insert(all.end(), one.begin(), one.end());
  const MatrixShape s{batch, m, n};
  const Pair x = both.make(DType::f32, s.shape(), all), y = both.zeros(DType::f32, s.shape());
  both.cuda.polar_resolvent({x.cuda, y.cuda, 5.0, 1.0, by, resolvent_workspace(both, s).cuda});
  const Values got = both.read_cuda(y);
  return {got.end() - m * n, got.end()};
}

TEST(CudaPolarSolve, ResolventHasTheSameBitsInAnyOrderAndInAnyBatch) {
  for (const Factorization by : {Factorization::cholesky, Factorization::qr})
    for (const auto& [m, n] : {std::pair<int64_t, int64_t>{70, 40}, {40, 70}}) {
      expect_same_bits_in_every_order("resolvent", [&] { return resolvent_of(by, 3, m, n); });
      EXPECT_EQ(resolvent_of(by, 3, m, n), resolvent_of(by, 1, m, n));
    }
}

// The transposed matrix has the transposed result, to the last bit where nothing else is computed.
TEST(CudaPolarSolve, ResolventOfATransposedMatrix) {
  Both both;
  const MatrixShape tall{1, 50, 35}, wide{1, 35, 50};
  const Values values = both.read_cpu(both.random(DType::f32, tall.shape(), 3, 0.1));
  const auto turned = [](const Values& x, int64_t m, int64_t n) {
    Values out(x.size());
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j) out[size_t(j * m + i)] = x[size_t(i * n + j)];
    return out;
  };
  for (const Factorization by : {Factorization::cholesky, Factorization::qr}) {
    const auto run = [&](const MatrixShape& s, const Values& from) {
      const Pair x = both.make(DType::f32, s.shape(), from), y = both.zeros(DType::f32, s.shape());
      both.cuda.polar_resolvent({x.cuda, y.cuda, 5.0, 1.0, by, resolvent_workspace(both, s).cuda});
      return both.read_cuda(y);
    };
    const Values straight = run(tall, values), other = run(wide, turned(values, 50, 35));
    const Weights weights{5.0, 1.0, by};
    Values difference = turned(other, 35, 50);
    for (size_t i = 0; i < straight.size(); ++i) difference[i] -= straight[i];
    const double x_norm = norm_of(values, 0, values.size()), y_norm = norm_of(straight, 0, straight.size());
    EXPECT_LE(norm_of(difference, 0, difference.size()), 2.0 * bound_of(tall, weights, x_norm, y_norm));
  }
}

// --- powers ---

Pair power_workspace(Both& both, int64_t batch, int64_t size) {
  return both.workspace(both.cpu.symmetric_power_workspace(batch, size, DType::f32),
                        both.cuda.symmetric_power_workspace(batch, size, DType::f32));
}

// Gram matrices of (size, depth) matrices: of rank `depth` if that is less than the size.
Pair squares(Both& both, int64_t batch, int64_t size, int64_t depth) {
  const Values x = both.read_cpu(both.random(DType::f32, {batch, size, depth}, 5));
  Values a;
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < size; ++j) {
        double sum = 0.0;
        for (int64_t k = 0; k < depth; ++k)
          sum += x[size_t((b * size + i) * depth + k)] * x[size_t((b * size + j) * depth + k)];
        a.push_back(sum);
      }
  return both.make(DType::f32, {batch, size, size}, a);
}

// Both compute in f64 and round once, each up to half a unit; what f64 leaves of its own is far less.
void expect_power(Both& both, const Pair& a, double exponent) {
  const int64_t batch = a.cpu.shape[0], size = a.cpu.shape[1];
  const Pair p = both.constant(DType::f32, a.cpu.shape, 7.0), workspace = power_workspace(both, batch, size);
  both.cpu.symmetric_power(a.cpu, exponent, p.cpu, workspace.cpu);
  both.cuda.symmetric_power(a.cuda, exponent, p.cuda, workspace.cuda);
  const Values want = both.read_cpu(p), got = both.read_cuda(p);
  expect_close(got, want, 2.2 * kUnit, fmt::format("{} x {}, exponent {}", batch, size, exponent));
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < i; ++j)
        ASSERT_EQ(got[size_t((b * size + i) * size + j)], got[size_t((b * size + j) * size + i)]);
  both.cuda.symmetric_power(a.cuda, exponent, a.cuda, workspace.cuda);  // in place
  EXPECT_EQ(both.read_cuda(a), got);
}

TEST(CudaPolarSolve, Powers) {
  for (const int64_t size : {1, 2, 15, 64, 70})
    for (const double exponent : {-0.5, -0.25, 0.5}) {
      Both both;
      expect_power(both, squares(both, 3, size, size + 10), exponent);
    }
}

TEST(CudaPolarSolve, PowersOfMatricesWithoutFullRank) {
  Both both;
  expect_power(both, squares(both, 2, 20, 13), -0.5);
  const Pair zero = both.zeros(DType::f32, {2, 5, 5});
  expect_power(both, zero, -0.5);
  EXPECT_EQ(both.read_cuda(zero), Values(50, 0.0));
}

// The square of the inverse root is the inverse.
TEST(CudaPolarSolve, PowersAreWhatTheySay) {
  Both both;
  const int64_t size = 12;
  const Pair a = squares(both, 1, size, 40), p = both.zeros(DType::f32, {1, size, size});
  both.cuda.symmetric_power(a.cuda, -0.5, p.cuda, power_workspace(both, 1, size).cuda);
  const Values from = both.read_cpu(a), root = both.read_cuda(p);
  const auto product = [&](const Values& x, const Values& y) {
    Values out(x.size());
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < size; ++j)
        for (int64_t k = 0; k < size; ++k)
          out[size_t(i * size + j)] += x[size_t(i * size + k)] * y[size_t(k * size + j)];
    return out;
  };
  Values identity(from.size());
  for (int64_t i = 0; i < size; ++i) identity[size_t(i * (size + 1))] = 1.0;
  // Elements of the roots are off by a unit: `size` of them, twice, times the norm of a, some (sqrt(40) +
  // sqrt(12))^2.
  expect_within(product(product(root, root), from), identity,
                2.0 * static_cast<double>(size) * kUnit * largest(root) * largest(root) * 100.0 *
                    static_cast<double>(size),
                "root root a");
}

TEST(CudaPolarSolve, PowersReportNaNBeforeTheyWriteAnything) {
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
    Both both;
    const Pair a = squares(both, 2, 4, 9), p = both.constant(DType::f32, {2, 4, 4}, 7.0);
    Values values = both.read_cpu(a);
    values[20] = bad;
    both.write(a, values);
    EXPECT_THAT(polar::test::message_of([&] {
                  both.cuda.symmetric_power(a.cuda, -0.5, p.cuda, power_workspace(both, 2, 4).cuda);
                }),
                AllOf(HasSubstr("symmetric_power"), HasSubstr("NaN or infinity")));
    EXPECT_EQ(both.read_cuda(p), Values(32, 7.0));
  }
}

TEST(CudaPolarSolve, PowersRefuseViolatedContracts) {
  Both both;
  const Pair a = squares(both, 2, 4, 9), rough = both.zeros(DType::bf16, {2, 4, 4});
  const Pair long_one = both.zeros(DType::f32, {2, 4, 5}), workspace = power_workspace(both, 2, 4);
  const Pair little = both.workspace(8, both.cuda.symmetric_power_workspace(2, 4, DType::f32) - 4);
  EXPECT_THROW(both.cuda.symmetric_power(rough.cuda, 1.0, rough.cuda, workspace.cuda), Error);
  EXPECT_THROW(both.cuda.symmetric_power(long_one.cuda, 1.0, long_one.cuda, workspace.cuda), Error);
  EXPECT_THAT(polar::test::message_of([&] { both.cuda.symmetric_power(a.cuda, 1.0, a.cuda, little.cuda); }),
              HasSubstr("workspace too small"));
}

TEST(CudaPolarSolve, PowersHaveTheSameBitsInAnyOrderAndInAnyBatch) {
  const auto run = [](int64_t batch) {
    Both both;
    const Values one = both.read_cpu(squares(both, 1, 70, 80));
    Values all;
    for (int64_t i = 0; i < batch; ++i) all.insert(all.end(), one.begin(), one.end());
    const Pair a = both.make(DType::f32, {batch, 70, 70}, all);
    both.cuda.symmetric_power(a.cuda, -0.5, a.cuda, power_workspace(both, batch, 70).cuda);
    const Values got = both.read_cuda(a);
    return Values(got.end() - 70 * 70, got.end());
  };
  expect_same_bits_in_every_order("power", [&] { return run(2); });
  EXPECT_EQ(run(2), run(1));
}

TEST(CudaPolarSolve, ThePlanForADeviceThatIsNotHereCountsTheSame) {
  Both both;
  const CudaOps planned{CudaOps::PlanOnly{}};
  for (const MatrixShape& s : {MatrixShape{1, 1, 1}, {3, 7, 5}, {2, 896, 4864}, {1, 151936, 896}}) {
    EXPECT_EQ(planned.polar_resolvent_workspace(s.batch, s.m, s.n, DType::f32),
              both.cuda.polar_resolvent_workspace(s.batch, s.m, s.n, DType::f32))
        << s.text();
    EXPECT_EQ(planned.symmetric_power_workspace(s.batch, s.small(), DType::f32),
              both.cuda.symmetric_power_workspace(s.batch, s.small(), DType::f32))
        << s.text();
  }
}

}  // namespace
}  // namespace polar::cuda::test
