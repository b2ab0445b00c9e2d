// The polar family on the CUDA backend against the CPU backend.
#include <gmock/gmock.h>

#include "base/error.h"
#include "cuda/both.h"
#include "cuda/orders.h"
#include "errors.h"

namespace polar::cuda::test {
namespace {

struct MatrixShape {
  int64_t batch, m, n;
  int64_t small() const { return std::min(m, n); }
  int64_t depth() const { return std::max(m, n); }
  Shape shape() const { return {batch, m, n}; }
  Shape square() const { return {batch, small(), small()}; }
  std::string text(DType dtype) const { return fmt::format("{} x {} x {} {}", batch, m, n, name_of(dtype)); }
};
// Vectors, odd shapes (no 16-byte pieces), whole pieces; tall and wide; one and several tiles a side.
const MatrixShape kShapes[] = {{1, 1, 1},     {3, 1, 64},    {3, 64, 1},    {2, 5, 7},
                               {4, 33, 20},   {2, 192, 64},  {1, 130, 200}, {2, 300, 270},
                               {2, 136, 264}, {1, 264, 136}, {1, 128, 128}, {1, 40, 1000}};
// Those that take long are left out where every access is watched.
std::vector<MatrixShape> shapes() {
  constexpr int64_t kSmall = 26000;
  std::vector<MatrixShape> chosen;
  for (const MatrixShape& s : kShapes)
    if (!every_access_is_watched() || s.shape().count() <= kSmall) chosen.push_back(s);
  return chosen;
}
const DType kDTypes[] = {DType::f32, DType::bf16};

Values absolute(Values values) {
  for (double& v : values) v = std::abs(v);
  return values;
}

// A product sums `depth` terms in float on either side; `magnitudes` is the sum of their absolute values. In
// bf16 the result is rounded once more.
void expect_product(const Values& got, const Values& want, const Values& magnitudes, int64_t depth,
                    DType dtype, const std::string& what) {
  if (dtype == DType::f32) return expect_close(got, want, 1e-5, what);
  const double in_float = 2.0 * static_cast<double>(depth + 2) * 0x1p-24;
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    const double bound = kBf16Unit * std::abs(want[i]) + 2.0 * in_float * magnitudes[i];
    ASSERT_LE(std::abs(got[i] - want[i]), bound) << what << "[" << i << "]: " << got[i] << " for " << want[i];
  }
}

void expect_symmetric(const Values& a, int64_t batch, int64_t size) {
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < i; ++j)
        ASSERT_EQ(a[size_t((b * size + i) * size + j)], a[size_t((b * size + j) * size + i)])
            << i << ", " << j;
}

TEST(CudaPolar, NormalizeAndInner) {
  for (const DType dtype : kDTypes)
    for (const MatrixShape& s : shapes()) {
      SCOPED_TRACE(s.text(dtype));
      Both both;
      const Pair x = both.random(dtype, s.shape(), 1, 10.0), y = both.random(dtype, s.shape(), 2);
      const Pair inner = both.constant(DType::f64, {s.batch}, 3.0);
      both.cpu.polar_inner(x.cpu, y.cpu, inner.cpu);
      both.cuda.polar_inner(x.cuda, y.cuda, inner.cuda);
      // Both sum in f64; a product's magnitude is 10.
      expect_within(both.read_cuda(inner), both.read_cpu(inner), 10.0 * double(s.m * s.n) * 1e-14, "inner");
      both.cpu.polar_normalize(x.cpu, 1.25, 1e-3);
      both.cuda.polar_normalize(x.cuda, 1.25, 1e-3);
      const Values want = both.read_cpu(x), got = both.read_cuda(x);
      const double unit = dtype == DType::bf16 ? kBf16Unit + 1e-6 : 1e-6;
      for (size_t i = 0; i < got.size(); ++i) ASSERT_LE(std::abs(got[i] - want[i]), unit * std::abs(want[i]));
    }
}

TEST(CudaPolar, AZeroMatrixStaysZero) {
  Both both;
  const Pair x = both.zeros(DType::f32, {2, 5, 7});
  both.cuda.polar_normalize(x.cuda, 1.0, 0.0);
  EXPECT_EQ(both.read_cuda(x), Values(70, 0.0));
}

// Far below and above the range of the squares in F32.
TEST(CudaPolar, NormalizeTakesNormsFromTheEndsOfTheRange) {
  Both both;
  for (const double norm : {1e-30, 1e30}) {
    const Pair x = both.random(DType::f32, {2, 5, 7}, 1);
    Values values = both.read_cpu(x);
    for (double& v : values) v *= norm / std::sqrt(35.0);
    both.write(x, values);
    values = both.read_cpu(x);  // rounded
    both.cuda.polar_normalize(x.cuda, 1.0, 0.0);
    const Values got = both.read_cuda(x);
    for (size_t matrix : {0, 35}) {
      double squares = 0.0;
      for (size_t i = matrix; i < matrix + 35; ++i) squares += values[i] * values[i];
      for (size_t i = matrix; i < matrix + 35; ++i) {  // the factor is rounded, then the product
        const double want = values[i] / std::sqrt(squares);
        ASSERT_LE(std::abs(got[i] - want), 2.1 * 0x1p-24 * std::abs(want)) << norm;
      }
    }
  }
}

void expect_gram(DType dtype) {
  for (const MatrixShape& s : shapes()) {
    SCOPED_TRACE(s.text(dtype));
    Both both;
    const Pair x = both.random(dtype, s.shape(), 1), a = both.constant(dtype, s.square(), 7.0);
    both.cpu.polar_gram(x.cpu, a.cpu);
    both.cuda.polar_gram(x.cuda, a.cuda);
    const Values want = both.read_cpu(a), got = both.read_cuda(a);
    both.write(x, absolute(both.read_cpu(x)));
    both.cpu.polar_gram(x.cpu, a.cpu);
    expect_product(got, want, both.read_cpu(a), s.depth(), dtype, "gram");
    expect_symmetric(got, s.batch, s.small());
  }
}

TEST(CudaPolar, GramIsExactlySymmetric) {
  expect_gram(DType::f32);
  on_every_kind_of_device([] { expect_gram(DType::bf16); });
}

void expect_polynomial(DType dtype) {
  constexpr double c1 = -4.775, c2 = 2.0315;
  for (const MatrixShape& s : shapes()) {
    SCOPED_TRACE(s.text(dtype));
    Both both;
    const Pair x = both.random(dtype, s.shape(), 1), a = both.zeros(dtype, s.square());
    const Pair b = both.constant(dtype, s.square(), 7.0);
    both.cpu.polar_gram(x.cpu, a.cpu);
    both.write(a, both.read_cpu(a));  // rounded, and the same on both
    both.cpu.polar_polynomial(a.cpu, c1, c2, b.cpu);
    both.cuda.polar_polynomial(a.cuda, c1, c2, b.cuda);
    const Values want = both.read_cpu(b), got = both.read_cuda(b);
    both.write(a, absolute(both.read_cpu(a)));
    both.cpu.polar_polynomial(a.cpu, -c1, c2, b.cpu);
    expect_product(got, want, both.read_cpu(b), s.small(), dtype, "polynomial");
    expect_symmetric(got, s.batch, s.small());
  }
}

TEST(CudaPolar, PolynomialIsExactlySymmetric) {
  expect_polynomial(DType::f32);
  on_every_kind_of_device([] { expect_polynomial(DType::bf16); });
}

void expect_apply(DType dtype) {
  for (const MatrixShape& s : shapes()) {
    SCOPED_TRACE(s.text(dtype));
    Both both;
    const Pair x = both.random(dtype, s.shape(), 1), b = both.random(dtype, s.square(), 2);
    const Pair y = both.constant(dtype, s.shape(), 7.0);
    both.cpu.polar_apply(x.cpu, 3.4445, b.cpu, y.cpu);
    both.cuda.polar_apply(x.cuda, 3.4445, b.cuda, y.cuda);
    const Values want = both.read_cpu(y), got = both.read_cuda(y);
    both.write(x, absolute(both.read_cpu(x)));
    both.write(b, absolute(both.read_cpu(b)));
    both.cpu.polar_apply(x.cpu, 3.4445, b.cpu, y.cpu);
    expect_product(got, want, both.read_cpu(y), s.small(), dtype, "apply");
  }
}

TEST(CudaPolar, ApplyOnTheShortSide) {
  expect_apply(DType::f32);
  on_every_kind_of_device([] { expect_apply(DType::bf16); });
}

// A Newton-Schulz step of one matrix, and what it gives.
Values step_of(DType dtype, int64_t batch, int64_t m, int64_t n) {
  Both both;
  Values one(static_cast<size_t>(m * n)), all;
  for (size_t i = 0; i < one.size(); ++i) one[i] = random_normal(17, 1, i);
  for (int64_t i = 0; i < batch; ++i) all.insert(all.end(), one.begin(), one.end());
  const Pair x = both.make(dtype, {batch, m, n}, all), y = both.zeros(dtype, {batch, m, n});
  const Pair a = both.zeros(dtype, {batch, m, m}), b = both.zeros(dtype, {batch, m, m});
  const Pair inner = both.zeros(DType::f64, {batch});
  both.cuda.polar_normalize(x.cuda, 1.0, 1e-7);
  both.cuda.polar_gram(x.cuda, a.cuda);
  both.cuda.polar_polynomial(a.cuda, -4.775, 2.0315, b.cuda);
  both.cuda.polar_apply(x.cuda, 3.4445, b.cuda, y.cuda);
  both.cuda.polar_inner(x.cuda, y.cuda, inner.cuda);
  const Values whole = both.read_cuda(y);
  Values result(whole.end() - m * n, whole.end());
  result.push_back(both.read_cuda(inner).back());
  return result;
}

void expect_same_bits(DType dtype) {
  const Values alone = step_of(dtype, 1, 140, 200);
  expect_same_bits_in_every_order("a step", [dtype] { return step_of(dtype, 3, 140, 200); });
  EXPECT_EQ(step_of(dtype, 3, 140, 200), alone);
}

TEST(CudaPolar, SameBitsInAnyOrderOfThreadsAndInAnyBatch) {
  expect_same_bits(DType::f32);
  on_every_kind_of_device([] { expect_same_bits(DType::bf16); });
}

// The factor of x on both sides; x stays.
void expect_factor(Both& both, const Pair& x, DType dtype, const std::string& what) {
  const Shape& shape = x.cuda.shape;
  const Values before = both.read_cuda(x);
  const Pair u = both.constant(dtype, shape, 7.0);
  const Pair workspace =
      both.workspace(both.cpu.polar_svd_workspace(shape[0], shape[1], shape[2], DType::f32),
                     both.cuda.polar_svd_workspace(shape[0], shape[1], shape[2], dtype));
  both.cpu.polar_svd(x.cpu, u.cpu, workspace.cpu);
  both.cuda.polar_svd(x.cuda, u.cuda, workspace.cuda);
  expect_result(dtype, both.read_cuda(u), both.read_cpu(u), what);
  EXPECT_EQ(both.read_cuda(x), before) << what;
}

TEST(CudaPolar, ExactFactor) {
  for (const DType dtype : kDTypes)
    for (const MatrixShape& s :
         {MatrixShape{1, 1, 1}, {3, 1, 64}, {3, 64, 1}, {2, 5, 7}, {4, 33, 20}, {2, 24, 90}}) {
      Both both;
      expect_factor(both, both.random(dtype, s.shape(), 1), dtype, s.text(dtype));
    }
}

// Two equal rows, a row of zeros, and nothing but zeros: directions of singular values that are 0 give 0.
TEST(CudaPolar, ExactFactorOfMatricesWithoutFullRank) {
  for (const DType dtype : kDTypes) {
    Both both;
    const Pair x = both.random(dtype, {3, 6, 10}, 1);
    Values values = both.read_cpu(x);
    std::copy_n(values.begin(), 10, values.begin() + 10);
    std::fill_n(values.begin() + 60, 10, 0.0);
    std::fill_n(values.begin() + 120, 60, 0.0);
    both.write(x, values);
    expect_factor(both, x, dtype, "rank 5, 5 and 0");
  }
}

// Singular values from 1 to 1e-5: in F32 the factor would be off by far more than 1e-5.
TEST(CudaPolar, ExactFactorOfAnIllConditionedMatrix) {
  Both both;
  const int64_t size = 12;
  Values values;
  for (int64_t row = 0; row < size; ++row)
    for (int64_t col = 0; col < size; ++col)
      values.push_back(std::pow(10.0, -5.0 * static_cast<double>(row) / 11.0) *
                       std::cos(0.37 * static_cast<double>((2 * col + 1) * (row + 1))));
  expect_factor(both, both.make(DType::f32, {1, size, size}, values), DType::f32, "factor");
}

TEST(CudaPolar, NaNIsReportedAndGetsNoFurther) {
  Both both;
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
    const Pair x = both.random(DType::f32, {2, 6, 4}, 1), u = both.constant(DType::f32, {2, 6, 4}, 7.0);
    Values values = both.read_cpu(x);
    values[30] = bad;
    both.write(x, values);
    const Pair workspace = both.workspace(8, both.cuda.polar_svd_workspace(2, 6, 4, DType::f32));
    EXPECT_THAT(polar::test::message_of([&] { both.cuda.polar_svd(x.cuda, u.cuda, workspace.cuda); }),
                ::testing::HasSubstr("holds NaN or infinity"));
    EXPECT_EQ(both.read_cuda(u), Values(48, 7.0));
  }
}

TEST(CudaPolar, ThePlanForADeviceThatIsNotHereCountsTheSameForTheSvd) {
  Both both;
  const CudaOps planned{CudaOps::PlanOnly{}};
  for (const MatrixShape& s : shapes())
    EXPECT_EQ(planned.polar_svd_workspace(s.batch, s.m, s.n, DType::bf16),
              both.cuda.polar_svd_workspace(s.batch, s.m, s.n, DType::bf16))
        << s.text(DType::bf16);
}

TEST(CudaPolar, ViolatedContractsAreRefused) {
  Both both;
  const Pair x = both.zeros(DType::f32, {1, 4, 6}), a = both.zeros(DType::f32, {1, 6, 6});
  EXPECT_THROW(both.cuda.polar_gram(x.cuda, a.cuda), Error);
  const Pair little = both.workspace(8, both.cuda.polar_svd_workspace(1, 4, 6, DType::f32) - 4);
  EXPECT_THROW(both.cuda.polar_svd(x.cuda, x.cuda, little.cuda), Error);
  const int64_t many = int64_t{1} << 20;
  const Pair y = both.zeros(DType::bf16, {many, 1, 1}), inner = both.zeros(DType::f64, {many});
  EXPECT_THROW(both.cuda.polar_inner(y.cuda, y.cuda, inner.cuda), Error);
}

}  // namespace
}  // namespace polar::cuda::test
