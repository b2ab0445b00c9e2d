// The CPU's polar_resolvent in f32 against LAPACK's QR form in f64, which shares no code with it up to K =
// 2^32. (The CUDA backend's: tests/cuda/polar_solve_test.cpp.)
#include <gmock/gmock.h>

#include <limits>

#include "base/error.h"
#include "device.h"
#include "errors.h"

namespace polar::testing {
namespace {

using ::testing::AllOf, ::testing::HasSubstr;

constexpr double kUnit = 0.5 * std::numeric_limits<float>::epsilon(),
                 kUnit64 = 0.5 * std::numeric_limits<double>::epsilon();

struct MatrixShape {
  int64_t batch, m, n;
  int64_t small() const { return std::min(m, n); }
  int64_t large() const { return std::max(m, n); }
  Shape shape() const { return {batch, m, n}; }
  std::string text() const { return fmt::format("{} of {} x {}", batch, m, n); }
};
// Vectors, odd sizes, tall and wide; leaves, blocks and several of them; more matrices than are in f64 at a
// time.
const MatrixShape kShapes[] = {{1, 1, 1},   {2, 1, 40},   {2, 40, 1},    {19, 6, 4},
                               {2, 33, 50}, {1, 97, 230}, {2, 260, 195}, {1, 130, 130}};

Device cpu(int threads = 2) {
  return Device(make_ops({.device = "cpu", .threads = threads}));
}

double norm_of(const Values& x, int64_t begin, int64_t count) {
  double sum = 0.0;
  for (int64_t i = begin; i < begin + count; ++i)
    sum += x[static_cast<size_t>(i)] * x[static_cast<size_t>(i)];
  return std::sqrt(sum);
}

// Matrices of norm 1 (Frobenius) whose singular values go down to some 1e-10 of that: a product of random
// factors with the values between them.
Values ill_conditioned(const MatrixShape& s) {
  Values out(static_cast<size_t>(s.batch * s.m * s.n));
  for (int64_t b = 0; b < s.batch; ++b) {
    const auto stream = static_cast<uint64_t>(2 * b);
    const Values left = random_values(s.m * s.small(), stream),
                 right = random_values(s.small() * s.n, stream + 1);
    double* x = out.data() + b * s.m * s.n;
    for (int64_t k = 0; k < s.small(); ++k) {
      const double value = std::pow(
          10.0, -10.0 * static_cast<double>(k) / static_cast<double>(std::max<int64_t>(s.small(), 2)));
      for (int64_t i = 0; i < s.m; ++i)
        for (int64_t j = 0; j < s.n; ++j)
          x[i * s.n + j] +=
              left[static_cast<size_t>(i * s.small() + k)] * value * right[static_cast<size_t>(k * s.n + j)];
    }
    const double norm = norm_of(out, b * s.m * s.n, s.m * s.n);
    for (int64_t i = 0; i < s.m * s.n; ++i) x[i] /= norm;
  }
  return rounded(DType::f32, out);
}

struct Weights {
  double scale, shift;
  Factorization by;
};

Values resolvent(Device& device, DType dtype, const MatrixShape& s, const Values& values, const Weights& w) {
  const Tensor x = device.make(dtype, s.shape(), values), y = device.zeros(dtype, s.shape());
  device->polar_resolvent(
      {.x = x,
       .y = y,
       .scale = w.scale,
       .shift = w.shift,
       .by = w.by,
       .workspace = device.bytes(device->polar_resolvent_workspace(s.batch, s.m, s.n, dtype))});
  EXPECT_EQ(device.read(x), values) << "x is an input";
  return device.read(y);
}

// The bounds of src/backend/cpu/polar_resolvent.cpp in the Frobenius norm, for matrices of norm 1: those of
// y's norm, 1 / (2 sqrt(scale shift)), times sqrt(s). 2 for all constants but the 4 of an inverse rounded to
// f32, which is 1: such roundings average out.
double bound_of(const MatrixShape& s, const Weights& w) {
  const double root = std::sqrt(static_cast<double>(s.small())), condition = 1.0 + w.scale / w.shift,
               largest = 0.5 * root / std::sqrt(w.scale * w.shift);
  if (w.by == Factorization::cholesky) return 2.0 * kUnit * condition * largest;
  const double rounded_inverse = w.scale / w.shift <= 625.0 ? std::sqrt(condition) : 0.0;
  return ((2.0 + rounded_inverse) * kUnit + 2.0 * condition * kUnit64) * largest;
}

void expect_resolvent(const MatrixShape& s, const Weights& w) {
  SCOPED_TRACE(fmt::format("{}, scale {}, shift {}", s.text(), w.scale, w.shift));
  Device device = cpu();
  const Values values = ill_conditioned(s);
  const Values want = resolvent(device, DType::f64, s, values, {w.scale, w.shift, Factorization::qr});
  Values difference = resolvent(device, DType::f32, s, values, w);
  for (size_t i = 0; i < want.size(); ++i) difference[i] -= want[i];
  for (int64_t b = 0; b < s.batch; ++b)
    EXPECT_LE(norm_of(difference, b * s.m * s.n, s.m * s.n), bound_of(s, w)) << "matrix " << b;
}

// LAPACK's QR in f32, beyond f64's reach, is backward stable: y is that of an x which is off by some units,
// by e. With S = shift I + scale x^T x the derivative is e S^-1 - x S^-1 scale (e^T x + x^T e) S^-1, and
// times S^(1/2) its norm is at most (1 + 1/2 + 1) ||e|| / sqrt(shift). There the errors, d, are measured:
// ||d S^(1/2)||^2 = shift ||d||^2 + scale ||d x^T||^2. y itself has ||x S^(-1/2)||, some sqrt(s).
void expect_backward_stable(const MatrixShape& s, const Weights& w) {
  SCOPED_TRACE(fmt::format("{}, scale {}, shift {}", s.text(), w.scale, w.shift));
  Device device = cpu();
  const Values x = ill_conditioned(s);
  const Values want = resolvent(device, DType::f64, s, x, w);
  Values difference = resolvent(device, DType::f32, s, x, w);
  for (size_t i = 0; i < want.size(); ++i) difference[i] -= want[i];
  const auto norm = [&](const Values& y, int64_t b) {
    const auto *of_y = y.data() + b * s.m * s.n, *of_x = x.data() + b * s.m * s.n;
    double sum = 0.0;
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t j = 0; j < s.m; ++j) {
        double product = 0.0;
        for (int64_t k = 0; k < s.n; ++k) product += of_y[i * s.n + k] * of_x[j * s.n + k];
        sum += w.scale * product * product;
      }
    return std::sqrt(sum + w.shift * std::pow(norm_of(y, b * s.m * s.n, s.m * s.n), 2));
  };
  for (int64_t b = 0; b < s.batch; ++b) {
    EXPECT_LE(norm(difference, b), 2.5 * 4.0 * kUnit / std::sqrt(w.shift)) << "matrix " << b;
  }
}

TEST(Resolvent, ByCholesky) {
  for (const MatrixShape& s : kShapes)
    for (const auto& [scale, shift] : {std::pair{3.0, 1.0}, {100.0, 1.0}, {1.0, 0.1}})
      expect_resolvent(s, {scale, shift, Factorization::cholesky});
}

// 2.7e9 is QDWH's first weight in f32.
TEST(Resolvent, ByQr) {
  for (const MatrixShape& s : kShapes)
    for (const auto& [scale, shift] : {std::pair{577.0, 1.0}, {1e5, 1.0}, {2.7e9, 1.0}, {1.0, 1e-9}})
      expect_resolvent(s, {scale, shift, Factorization::qr});
}

// 1 / 2.3e13 is ZOLO-PD's first shift.
TEST(Resolvent, ByQrBeyondTheReachOfDoubles) {
  for (const MatrixShape& s : kShapes)
    for (const auto& [scale, shift] : {std::pair{1e11, 1.0}, {1.0, 1e-11}, {1.0, 1 / 2.3e13}})
      expect_backward_stable(s, {scale, shift, Factorization::qr});
}

// In doubles too the two forms agree, which share no code: to K units.
TEST(Resolvent, TheFormsAgreeInDouble) {
  for (const MatrixShape& s : kShapes) {
    SCOPED_TRACE(s.text());
    Device device = cpu();
    const Values values = ill_conditioned(s),
                 qr = resolvent(device, DType::f64, s, values, {50.0, 1.0, Factorization::qr});
    Values difference = resolvent(device, DType::f64, s, values, {50.0, 1.0, Factorization::cholesky});
    for (size_t i = 0; i < qr.size(); ++i) difference[i] -= qr[i];
    EXPECT_LE(norm_of(difference, 0, std::ssize(qr)), 100.0 * kUnit64 * norm_of(qr, 0, std::ssize(qr)));
  }
}

// What is not there gives 0, and equal columns stay equal.
TEST(Resolvent, OfMatricesWithoutFullRank) {
  const MatrixShape s{3, 60, 40};
  Values values = random_values(3 * 60 * 40, 1, 0.02);
  for (size_t i = 0; i < 60; ++i) values[40 * i + 1] = values[40 * i];
  for (size_t i = 0; i < 60; ++i) values[2400 + 40 * i + 2] = 0.0;
  std::fill_n(values.begin() + 4800, 2400, 0.0);
  values = rounded(DType::f32, values);
  for (const auto& [scale, by] : {std::pair{3.0, Factorization::cholesky}, {1e9, Factorization::qr}}) {
    Device device = cpu();
    const Values y = resolvent(device, DType::f32, s, values, {scale, 1.0, by});
    for (size_t i = 0; i < 60; ++i) {
      EXPECT_NEAR(y[40 * i + 1], y[40 * i], bound_of(s, {scale, 1.0, by}));
      EXPECT_EQ(y[2400 + 40 * i + 2], 0.0);
    }
    EXPECT_EQ(Values(y.begin() + 4800, y.end()), Values(2400, 0.0));
  }
}

TEST(Resolvent, BitsDependNeitherOnThreadsNorOnTheBatch) {
  for (const auto& [scale, by] :
       {std::pair{3.0, Factorization::cholesky}, {577.0, Factorization::qr}, {1e12, Factorization::qr}})
    for (const auto& [m, n] : {std::pair<int64_t, int64_t>{230, 150}, {150, 230}}) {
      const MatrixShape s{3, m, n};
      const Values values = ill_conditioned(s);
      Device one = cpu(1), two = cpu(2), three = cpu(3);
      const Values once = resolvent(one, DType::f32, s, values, {scale, 1.0, by});
      EXPECT_EQ(once, resolvent(two, DType::f32, s, values, {scale, 1.0, by}));
      EXPECT_EQ(once, resolvent(three, DType::f32, s, values, {scale, 1.0, by}));
      const Values last =
          resolvent(two, DType::f32, {1, m, n}, {values.end() - m * n, values.end()}, {scale, 1.0, by});
      EXPECT_EQ(Values(once.end() - m * n, once.end()), last);
    }
}

TEST(Resolvent, ReportsWhatIsNotFinite) {
  const MatrixShape s{2, 6, 4};
  for (const Factorization by : {Factorization::cholesky, Factorization::qr})
    for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
      Device device = cpu();
      Values values = rounded(DType::f32, random_values(48, 1));
      values[30] = bad;
      EXPECT_THAT(
          polar::test::message_of([&] {
            resolvent(device, DType::f32, s, values, {1.0, 1.0, by});
          }),
          AllOf(HasSubstr("polar_resolvent"), HasSubstr("a matrix of [2, "), HasSubstr("NaN or infinity")));
    }
}

}  // namespace
}  // namespace polar::testing
