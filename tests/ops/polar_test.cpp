// Operations of the polar iterations against plain loops in double; the exact factor against matrices whose
// factors are known by construction.
#include <algorithm>
#include <limits>

#include "base/error.h"
#include "device.h"

namespace polar::testing {
namespace {

struct MatrixShape {
  int64_t batch, m, n;
};
// Vectors, odd shapes, tall and wide, one and several tiles a side.
const MatrixShape kShapes[] = {{1, 1, 1},   {3, 1, 64},   {3, 64, 1},    {2, 5, 7},
                               {4, 33, 20}, {2, 192, 64}, {1, 130, 200}, {2, 300, 270}};

double at(const Values& x, int64_t row, int64_t col, int64_t cols) {
  return x[static_cast<size_t>(row * cols + col)];
}

// c (m, n) = a (m, k) b (k, n)
Values product(const Values& a, const Values& b, int64_t m, int64_t k, int64_t n) {
  Values c(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t l = 0; l < k; ++l)
      for (int64_t j = 0; j < n; ++j) c[static_cast<size_t>(i * n + j)] += at(a, i, l, k) * at(b, l, j, n);
  return c;
}

Values transposed(const Values& a, int64_t m, int64_t n) {
  Values out(a.size());
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) out[static_cast<size_t>(j * m + i)] = at(a, i, j, n);
  return out;
}

Values gram(const Values& x, int64_t m, int64_t n) {
  return m <= n ? product(x, transposed(x, m, n), m, n, m) : product(transposed(x, m, n), x, n, m, n);
}

// Matrix i of a batch.
Values matrix(const Values& batch, int64_t i, int64_t count) {
  return {batch.begin() + i * count, batch.begin() + (i + 1) * count};
}

bool is_symmetric(const Values& a, int64_t size) {
  return a == transposed(a, size, size);
}

double tolerance_of(DType dtype) {
  return dtype == DType::f32 ? 2e-6 : 1e-14;
}

TEST(Polar, NormalizeAndInner) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (const MatrixShape& s : kShapes) {
      const int64_t count = s.m * s.n;
      const Tensor x = device.random(dtype, {s.batch, s.m, s.n}, 1, 10.0);
      const Tensor y = device.random(dtype, {s.batch, s.m, s.n}, 2),
                   out = device.zeros(DType::f64, {s.batch});
      const Values a = device.read(x), b = device.read(y);
      device->polar_inner(x, y, out);
      device->polar_normalize(x, 1.25, 1e-3);
      for (int64_t i = 0; i < s.batch; ++i) {
        Values want = matrix(a, i, count);
        EXPECT_NEAR(device.read(out)[static_cast<size_t>(i)], dot(want, matrix(b, i, count)),
                    1e-13 * static_cast<double>(count));
        const double factor = 1.0 / (1.25 * std::sqrt(dot(want, want)) + 1e-3);
        for (double& v : want) v *= factor;
        expect_close(matrix(device.read(x), i, count), want, tolerance_of(dtype), "normalized");
      }
    }
}

TEST(Polar, AZeroMatrixStaysZero) {
  Device device;
  const Tensor x = device.zeros(DType::f32, {2, 5, 7});
  device->polar_normalize(x, 1.0, 0.0);
  EXPECT_EQ(device.read(x), Values(70, 0.0));
}

TEST(Polar, GramIsExactlySymmetric) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (const MatrixShape& s : kShapes) {
      const int64_t size = std::min(s.m, s.n);
      const Tensor x = device.random(dtype, {s.batch, s.m, s.n}, 1);
      const Tensor a = device.random(dtype, {s.batch, size, size}, 2);  // overwritten
      device->polar_gram(x, a);
      for (int64_t i = 0; i < s.batch; ++i) {
        const Values got = matrix(device.read(a), i, size * size);
        expect_close(got, gram(matrix(device.read(x), i, s.m * s.n), s.m, s.n), tolerance_of(dtype), "gram");
        EXPECT_TRUE(is_symmetric(got, size)) << s.m << " x " << s.n;
      }
    }
}

TEST(Polar, PolynomialIsExactlySymmetric) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (const MatrixShape& s : kShapes) {
      const int64_t size = std::min(s.m, s.n), count = size * size;
      const Tensor x = device.random(dtype, {s.batch, s.m, s.n}, 1);
      const Tensor a = device.zeros(dtype, {s.batch, size, size});
      const Tensor b = device.random(dtype, {s.batch, size, size}, 2);  // overwritten
      device->polar_gram(x, a);
      device->polar_polynomial(a, -4.775, 2.0315, b);
      for (int64_t i = 0; i < s.batch; ++i) {
        const Values symmetric = matrix(device.read(a), i, count);
        Values want = product(symmetric, symmetric, size, size, size);
        for (size_t j = 0; j < want.size(); ++j) want[j] = -4.775 * symmetric[j] + 2.0315 * want[j];
        const Values got = matrix(device.read(b), i, count);
        expect_close(got, want, tolerance_of(dtype), "polynomial");
        EXPECT_TRUE(is_symmetric(got, size));
      }
    }
}

TEST(Polar, ApplyOnTheShortSide) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (const MatrixShape& s : kShapes) {
      const int64_t size = std::min(s.m, s.n), count = s.m * s.n;
      const Tensor x = device.random(dtype, {s.batch, s.m, s.n}, 1);
      const Tensor b = device.random(dtype, {s.batch, size, size}, 2);
      const Tensor y = device.random(dtype, {s.batch, s.m, s.n}, 3);  // overwritten
      device->polar_apply(x, 3.4445, b, y);
      for (int64_t i = 0; i < s.batch; ++i) {
        const Values xi = matrix(device.read(x), i, count), bi = matrix(device.read(b), i, size * size);
        Values want = s.m <= s.n ? product(bi, xi, s.m, s.m, s.n) : product(xi, bi, s.m, s.n, s.n);
        for (size_t j = 0; j < want.size(); ++j) want[j] += 3.4445 * xi[j];
        expect_close(matrix(device.read(y), i, count), want, tolerance_of(dtype), "apply");
      }
    }
}

// reduced: of each factor 16 bits remain, |x - x1 - x2| <= 2^-18 |x|, and three products of the parts are
// left out or cut, each at most 2^-18 of the whole; so a term errs by less than 2^-16, beside fp32's own (k +
// 3) 2^-24.
TEST(Polar, ReducedProductsKeepSixteenBits) {
  Device device;
  for (const MatrixShape& s : {MatrixShape{2, 96, 160}, {1, 160, 96}, {3, 64, 64}, {1, 7, 33}}) {
    const int64_t size = std::min(s.m, s.n), depth = std::max(s.m, s.n);
    const Tensor x = device.random(DType::f32, {s.batch, s.m, s.n}, 1);
    const Tensor a = device.zeros(DType::f32, {s.batch, size, size});
    device->polar_gram(x, a, PolarPrecision::reduced);
    const double bound = 0x1p-16 + static_cast<double>(depth + 3) * 0x1p-24;
    for (int64_t i = 0; i < s.batch; ++i) {
      Values values = matrix(device.read(x), i, s.m * s.n);
      const Values want = gram(values, s.m, s.n), got = matrix(device.read(a), i, size * size);
      for (double& value : values) value = std::abs(value);
      const Values magnitude = gram(values, s.m, s.n);
      for (size_t j = 0; j < want.size(); ++j)
        EXPECT_LE(std::abs(got[j] - want[j]), bound * magnitude[j]) << j;
      EXPECT_TRUE(is_symmetric(got, size));
    }
  }
}

// A matrix gives the same bits alone, in any place of a batch, and on any number of threads.
TEST(Polar, SameBitsOnAnyThreadsAndInAnyBatch) {
  Values first;
  for (int threads : {1, 2})
    for (int64_t batch : {1, 5}) {
      Device device(threads);
      const int64_t m = 300, n = 400;
      const Values one = random_values(m * n, 1);
      Values all;
      for (int64_t i = 0; i < batch; ++i) all.insert(all.end(), one.begin(), one.end());
      const Tensor x = device.make(DType::f32, {batch, m, n}, all),
                   y = device.zeros(DType::f32, {batch, m, n});
      const Tensor a = device.zeros(DType::f32, {batch, m, m}), b = device.zeros(DType::f32, {batch, m, m});
      device->polar_normalize(x, 1.0, 1e-7);
      device->polar_gram(x, a);
      device->polar_polynomial(a, -4.775, 2.0315, b);
      device->polar_apply(x, 3.4445, b, y);
      const Tensor norms = device.zeros(DType::f64, {batch});
      device->polar_inner(x, y, norms);
      Values result = matrix(device.read(y), batch - 1, m * n);
      result.push_back(device.read(norms).back());
      if (first.empty()) first = result;
      EXPECT_EQ(result, first) << threads << " threads, batch " << batch;
    }
}

// Orthonormal columns (rows >= cols) from random ones by Gram-Schmidt, twice for full accuracy.
Values orthonormal(int64_t rows, int64_t cols, uint64_t stream) {
  Values q = random_values(rows * cols, stream);
  const auto element = [&](int64_t i, int64_t j) -> double& { return q[static_cast<size_t>(i * cols + j)]; };
  for (int64_t j = 0; j < cols; ++j)
    for (int pass = 0; pass < 2; ++pass) {
      for (int64_t k = 0; k < j; ++k) {
        double inner = 0.0;
        for (int64_t i = 0; i < rows; ++i) inner += element(i, j) * element(i, k);
        for (int64_t i = 0; i < rows; ++i) element(i, j) -= inner * element(i, k);
      }
      double squares = 0.0;
      for (int64_t i = 0; i < rows; ++i) squares += element(i, j) * element(i, j);
      for (int64_t i = 0; i < rows; ++i) element(i, j) /= std::sqrt(squares);
    }
  return q;
}

// x = L diag(singular) R^T and its orthogonal factor, L and R restricted to the singular values that are not
// 0.
struct Known {
  Values x, factor;
};
Known known(int64_t m, int64_t n, const Values& singular, uint64_t stream) {
  const int64_t small = std::min(m, n);
  const Values left = orthonormal(m, small, stream), right = orthonormal(n, small, stream + 1);
  Values scaled = left, kept = left;
  for (size_t i = 0; i < scaled.size(); ++i) {
    const double s = singular[i % static_cast<size_t>(small)];
    scaled[i] *= s;
    if (s == 0.0) kept[i] = 0.0;
  }
  const Values right_t = transposed(right, n, small);
  return {product(scaled, right_t, m, small, n), product(kept, right_t, m, small, n)};
}

Values factor(Device& device, DType dtype, const MatrixShape& s, const Values& x) {
  const Tensor in = device.make(dtype, {s.batch, s.m, s.n}, x),
               out = device.zeros(dtype, {s.batch, s.m, s.n});
  const Values before = device.read(in);
  device->polar_svd(in, out, device.bytes(device->polar_svd_workspace(s.batch, s.m, s.n, dtype)));
  EXPECT_EQ(device.read(in), before);
  return device.read(out);
}

TEST(PolarSvd, FactorsKnownByConstruction) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (const MatrixShape& s : kShapes) {
      if (s.m * s.n > 40000) continue;
      const int64_t small = std::min(s.m, s.n);
      Values x, want;
      for (int64_t i = 0; i < s.batch; ++i) {
        Values singular(static_cast<size_t>(small));
        for (size_t k = 0; k < singular.size(); ++k) singular[k] = 1.0 / (1.0 + 0.5 * static_cast<double>(k));
        const Known k = known(s.m, s.n, singular, 10 * static_cast<uint64_t>(i) + 1);
        x.insert(x.end(), k.x.begin(), k.x.end());
        want.insert(want.end(), k.factor.begin(), k.factor.end());
      }
      // In f32 the input itself is rounded: its factor moves by eps / (smallest singular value).
      const double tolerance = dtype == DType::f32 ? 2e-6 * static_cast<double>(small) : 1e-12;
      expect_close(factor(device, dtype, s, x), want, tolerance, "factor");
    }
}

// What the computation itself adds: an f32 matrix with condition 1e5 has, as exactly those numbers, the
// factor that the f64 computation gives.
TEST(PolarSvd, F32IsAsAccurateAsItsRounding) {
  Device device;
  const MatrixShape s{1, 40, 60};
  Values singular(40);
  for (size_t k = 0; k < singular.size(); ++k)
    singular[k] = std::pow(10.0, -5.0 * static_cast<double>(k) / 39.0);
  const std::vector<float> rounded = converted<float>(known(s.m, s.n, singular, 5).x);
  const Values x(rounded.begin(), rounded.end());
  expect_close(factor(device, DType::f32, s, x), factor(device, DType::f64, s, x), 1e-7, "factor");
}

TEST(PolarSvd, RankDeficientAndZero) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (const MatrixShape& s : {MatrixShape{1, 30, 12}, MatrixShape{1, 12, 30}, MatrixShape{1, 12, 12}}) {
      Values singular(12);
      for (size_t k = 0; k < 5; ++k) singular[k] = 1.0 + static_cast<double>(k);
      const Known k = known(s.m, s.n, singular, 3);
      expect_close(factor(device, dtype, s, k.x), k.factor, dtype == DType::f32 ? 2e-6 : 1e-13, "rank 5");
      EXPECT_EQ(factor(device, dtype, s, Values(k.x.size())), Values(k.x.size())) << "zero matrix";
    }
}

TEST(PolarSvd, SameBitsOnAnyThreads) {
  Values first;
  for (int threads : {1, 2}) {
    Device device(threads);
    const MatrixShape s{20, 24, 16};  // more matrices than are worked on at a time
    const Values got = factor(device, DType::f32, s, random_values(20 * 24 * 16, 9));
    if (threads == 1) first = got;
    EXPECT_EQ(got, first);
  }
}

TEST(PolarSvd, NonFiniteMatricesAreNamed) {
  Device device;
  Values x = random_values(6 * 4, 1);
  x[7] = std::numeric_limits<double>::quiet_NaN();
  const Tensor in = device.make(DType::f32, {1, 6, 4}, x), out = device.zeros(DType::f32, {1, 6, 4});
  EXPECT_THROW(device->polar_svd(in, out, device.bytes(device->polar_svd_workspace(1, 6, 4, DType::f32))),
               std::runtime_error);
}

// --- eigenvalues ---

// x x^T of a random (size, depth) matrix.
Values squares(int64_t size, int64_t depth, uint64_t stream) {
  const Values x = random_values(size * depth, stream);
  return product(x, transposed(x, size, depth), size, depth, size);
}

// (a + shift I)^(-1/4) to the fourth is the inverse of a + shift I; of a matrix without full rank, too.
TEST(SymmetricPower, WithAShiftEveryEigenvalueCounts) {
  Device device;
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t depth : {7, 3}) {
      const int64_t size = 5;
      const double shift = 0.5;
      const Tensor a = device.make(dtype, {1, size, size}, squares(size, depth, 1)),
                   p = device.zeros(dtype, {1, size, size}),
                   workspace = device.bytes(device->symmetric_power_workspace(1, size, dtype));
      device->symmetric_power(a, -0.25, p, workspace, shift);
      const Values root = device.read(p), square = product(root, root, size, size, size);
      Values shifted = device.read(a), identity(static_cast<size_t>(size * size));
      for (int64_t i = 0; i < size; ++i) {
        shifted[static_cast<size_t>(i * (size + 1))] += shift;
        identity[static_cast<size_t>(i * (size + 1))] = 1.0;
      }
      expect_close(product(product(square, square, size, size, size), shifted, size, size, size), identity,
                   dtype == DType::f32 ? 1e-5 : 1e-13, "root^4 (a + shift I)");
    }
}

double off_diagonal(const Values& a, int64_t size) {
  double largest = 0.0;
  for (int64_t i = 0; i < size; ++i)
    for (int64_t j = 0; j < size; ++j)
      if (i != j) largest = std::max(largest, std::abs(at(a, i, j, size)));
  return largest;
}

struct BasisOf {
  Device& device;
  DType dtype;
  int64_t size;
  Values operator()(const Values& a, const Values& basis) const {
    const Shape square{size, size};
    const Tensor out = device.random(dtype, square, 9);  // overwritten
    device->eigenbasis({.a = device.make(dtype, square, a),
                        .basis = basis.empty() ? Tensor{} : device.make(dtype, square, basis),
                        .out = out,
                        .workspace = device.bytes(device->eigenbasis_workspace(size, dtype))});
    return device.read(out);
  }
};

Values turned(const Values& basis, const Values& a, int64_t size) {
  return product(product(basis, a, size, size, size), transposed(basis, size, size), size, size, size);
}

TEST(Eigenbasis, ExactVectorsAreOrthonormalAndMakeDiagonal) {
  Device device;
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t size : {1, 2, 17, 70}) {
      const Values a = squares(size, size + 3, 1), q = BasisOf{device, dtype, size}(a, {});
      Values identity(static_cast<size_t>(size * size));
      for (int64_t i = 0; i < size; ++i) identity[static_cast<size_t>(i * (size + 1))] = 1.0;
      expect_close(product(q, transposed(q, size, size), size, size, size), identity, tolerance_of(dtype),
                   "q");
      EXPECT_LE(off_diagonal(turned(q, a, size), size),
                10.0 * tolerance_of(dtype) * *std::max_element(a.begin(), a.end()));
    }
}

// A step of the iteration keeps vectors orthonormal, each in its place, and brings a basis that is off
// nearer.
TEST(Eigenbasis, AStepOfTheIteration) {
  Device device;
  for (const DType dtype : {DType::f32, DType::f64}) {
    const int64_t size = 12;
    const BasisOf basis_of{device, dtype, size};
    Values a(static_cast<size_t>(size * size));  // eigenvalues 3^-i, in an order of no order
    for (int64_t i = 0; i < size; ++i)
      a[static_cast<size_t>(i * (size + 1))] = std::pow(3.0, -static_cast<double>(i * 5 % size));
    const Values turn = basis_of(squares(size, size, 2), {});
    a = turned(turn, a, size);
    Values q = orthonormal(size, size, 3);
    for (int step = 0; step < 60; ++step) q = basis_of(a, q);
    EXPECT_LE(off_diagonal(turned(q, a, size), size), 20.0 * tolerance_of(dtype));
    Values identity(static_cast<size_t>(size * size));
    for (int64_t i = 0; i < size; ++i) identity[static_cast<size_t>(i * (size + 1))] = 1.0;
    expect_close(product(q, transposed(q, size, size), size, size, size), identity, tolerance_of(dtype), "q");
    // Of a converged basis, its vectors in another order, each stays where it is, but for its sign.
    Values moved(q.size());
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < size; ++j)
        moved[static_cast<size_t>(i * size + j)] = at(q, i * 7 % size, j, size);
    const Values next = basis_of(a, moved);
    for (int64_t i = 0; i < size; ++i) {
      double inner = 0.0;
      for (int64_t j = 0; j < size; ++j) inner += at(next, i, j, size) * at(moved, i, j, size);
      EXPECT_NEAR(std::abs(inner), 1.0, 20.0 * tolerance_of(dtype)) << i;
    }
  }
}

TEST(Eigenbasis, RefusesWhatIsNotFinite) {
  Device device;
  Values a = squares(4, 6, 1);
  a[5] = NAN;
  for (const Values& basis : {Values{}, orthonormal(4, 4, 2)})
    EXPECT_THROW((BasisOf{device, DType::f32, 4}(a, basis)), Error);
}

}  // namespace
}  // namespace polar::testing
