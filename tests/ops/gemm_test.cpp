// Matrix products and biases against naive loops in double, with the error bound of a dot product.
#include <limits>

#include "base/error.h"
#include "ops/device.h"

namespace polar {
namespace {

using testing::Device;
using testing::Values;

constexpr Transpose kBoth[] = {Transpose::no, Transpose::yes};

double epsilon(DType dtype) {
  return dtype == DType::f32 ? 0x1p-24 : 0x1p-53;
}

// A matrix in the middle of a wider array.
struct Strided {
  Tensor all;
  MatrixView view;
  int64_t begin;
  Strided(Device& device, DType dtype, int64_t rows, int64_t cols, uint64_t stream)
      : all(device.random(dtype, {std::max<int64_t>(rows, 1), cols + 5}, stream)),
        view(MatrixView(all.data, dtype, rows, cols + 5, cols + 5).columns(2, cols)),
        begin(2) {}
};

struct Product {
  int64_t m, n, k;
  double alpha, beta;
};

// Every element within gamma_k = (k + 3) eps of the sum of absolute values (Higham, Accuracy and Stability,
// section 3.5), and the columns beside c as they were.
void expect_product(const Product& p, Transpose ta, Transpose tb, DType dtype) {
  Device device;
  const bool a_turned = ta == Transpose::yes, b_turned = tb == Transpose::yes;
  const Strided a(device, dtype, a_turned ? p.k : p.m, a_turned ? p.m : p.k, 1);
  const Strided b(device, dtype, b_turned ? p.n : p.k, b_turned ? p.k : p.n, 2);
  const Strided c(device, dtype, p.m, p.n, 3);
  const Values av = device.read(a.all), bv = device.read(b.all), before = device.read(c.all);
  device->gemm(ta, tb, p.alpha, a.view, b.view, p.beta, c.view);
  const Values after = device.read(c.all);
  const auto at = [](const Values& values, const Strided& x, int64_t row, int64_t col) {
    return values[static_cast<size_t>(row * x.view.stride + x.begin + col)];
  };
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = -c.begin; j < p.n + 3; ++j) {
      const double old = at(before, c, i, j), got = at(after, c, i, j);
      if (j < 0 || j >= p.n) {
        ASSERT_EQ(got, old) << "outside c: " << i << ", " << j;
        continue;
      }
      double sum = 0.0, magnitude = 0.0;
      for (int64_t l = 0; l < p.k; ++l) {
        const double term =
            at(av, a, a_turned ? l : i, a_turned ? i : l) * at(bv, b, b_turned ? j : l, b_turned ? l : j);
        sum += term;
        magnitude += std::abs(term);
      }
      const double bound = static_cast<double>(p.k + 3) * epsilon(dtype) *
                           (std::abs(p.alpha) * magnitude + std::abs(p.beta * old));
      ASSERT_LE(std::abs(got - (p.alpha * sum + p.beta * old)), bound)
          << p.m << "x" << p.n << "x" << p.k << " at " << i << ", " << j;
    }
  }
}

TEST(Gemm, EveryTransposeAndShapeAgreesWithNaiveLoops) {
  const Product products[] = {{1, 1, 1, 1.0, 0.0},
                              {3, 5, 7, -0.5, 2.0},
                              {33, 17, 130, 1.0, 1.0},
                              {130, 257, 64, 1.0, 0.0},
                              {1, 300, 70, 1.0, 0.5},
                              {300, 1, 70, 2.0, 0.0},
                              {1, 5000, 129, 1.0, 0.5},
                              // several blocks of the split kernel: of k, of rows, of columns
                              {64, 64, 32, 1.0, 0.0},
                              {75, 530, 801, 0.5, 1.0},
                              {530, 75, 390, 1.0, 2.0}};
  for (const Product& p : products)
    for (const Transpose ta : kBoth)
      for (const Transpose tb : kBoth)
        for (const DType dtype : {DType::f32, DType::f64}) expect_product(p, ta, tb, dtype);
}

// Shapes that are cut into blocks, with ragged last blocks.
TEST(Gemm, BlocksCoverTheWholeProduct) {
  for (const Transpose ta : kBoth)
    for (const Transpose tb : kBoth) {
      expect_product({270, 531, 257, 1.0, 1.0}, ta, tb, DType::f32);
      expect_product({97, 2100, 129, 1.0, 0.0}, ta, tb, DType::f32);
    }
}

TEST(Gemm, EmptySumScalesC) {
  Device device;
  const Tensor nothing = device.zeros(DType::f32, {1});
  const Tensor c = device.make(DType::f32, {2, 2}, {1, 2, 3, 4});
  const MatrixView a(nothing.data, DType::f32, 2, 0, 1), b(nothing.data, DType::f32, 0, 2, 2);
  device->gemm(Transpose::no, Transpose::no, 1.0, a, b, 0.5, c);
  EXPECT_EQ(device.read(c), (Values{0.5, 1, 1.5, 2}));
  device->gemm(Transpose::no, Transpose::no, 1.0, a, b, 0.0, c);
  EXPECT_EQ(device.read(c), (Values{0, 0, 0, 0}));
}

TEST(Gemm, BetaZeroOverwritesWhateverWasThere) {
  Device device;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 6}, {3, 6}, {20, 70}}) {
    const Tensor a = device.random(DType::f32, {rows, 4}, 1), b = device.random(DType::f32, {4, cols}, 2);
    const Tensor c = device.make(DType::f32, {rows, cols}, Values(static_cast<size_t>(rows * cols), nan));
    device->gemm(Transpose::no, Transpose::no, 1.0, a, b, 0.0, c);
    for (const double value : device.read(c)) EXPECT_TRUE(std::isfinite(value));
  }
}

Values product_bits(int threads, int64_t m, int64_t n, int64_t k, Transpose ta, Transpose tb, int64_t shift) {
  Device device(threads);
  const auto shifted = [&](int64_t rows, int64_t cols, uint64_t stream) {
    Values values = testing::random_values(rows * cols, stream);
    values.insert(values.begin(), static_cast<size_t>(shift), 0.0);
    const Tensor all = device.make(DType::f32, {rows * cols + shift}, values);
    return all.slice(shift, {rows, cols});
  };
  const Tensor a = ta == Transpose::yes ? shifted(k, m, 1) : shifted(m, k, 1);
  const Tensor b = tb == Transpose::yes ? shifted(n, k, 2) : shifted(k, n, 2);
  const Tensor c = shifted(m, n, 3);
  device->gemm(ta, tb, 1.0, a, b, 1.0, c);
  return device.read(c);
}

TEST(Gemm, BitsDependNeitherOnThreadsNorOnAlignmentNorOnTheRun) {
  const int64_t shapes[][3] = {{256, 384, 192}, {65, 1000, 130}, {1, 2500, 200},
                               {1, 6000, 513},  {7, 9, 11},      {512, 64, 300}};
  for (const auto& [m, n, k] : shapes)
    for (const Transpose ta : kBoth)
      for (const Transpose tb : kBoth) {
        const Values once = product_bits(1, m, n, k, ta, tb, 0);
        EXPECT_EQ(once, product_bits(1, m, n, k, ta, tb, 0)) << "another run";
        EXPECT_EQ(once, product_bits(2, m, n, k, ta, tb, 0)) << "2 threads";
        EXPECT_EQ(once, product_bits(3, m, n, k, ta, tb, 0)) << "3 threads";
        EXPECT_EQ(once, product_bits(2, m, n, k, ta, tb, 1)) << "shifted by one element";
        EXPECT_EQ(once, product_bits(2, m, n, k, ta, tb, 7)) << "shifted by seven elements";
      }
}

// Every size around the edges of tiles and vectors: all three at once in small steps, then each alone.
TEST(Gemm, EverySmallSize) {
  for (const Transpose ta : kBoth)
    for (const Transpose tb : kBoth)
      for (const DType dtype : {DType::f32, DType::f64}) {
        for (int64_t m = 1; m <= 40; m += 3)
          for (int64_t n = 1; n <= 40; n += 3)
            for (int64_t k = 1; k <= 40; k += 13) expect_product({m, n, k, -0.5, 1.5}, ta, tb, dtype);
        for (int64_t i = 1; i <= 40; ++i) {
          expect_product({i, 33, 5, 1.0, 0.0}, ta, tb, dtype);
          expect_product({15, i, 5, 1.0, 1.0}, ta, tb, dtype);
          expect_product({15, 33, i, 1.0, 0.5}, ta, tb, dtype);
        }
      }
}

// An element's bits come from its row of a, its column of b and k: any part of a product has them too, as
// long as it is large enough for the same kernel (32 rows, 16 columns).
TEST(Gemm, APartOfAProductHasTheBitsOfTheWhole) {
  constexpr int64_t m = 150, n = 210, k = 801;  // several blocks of k, several parts for two threads
  const auto stored = [](const Tensor& x, Transpose transpose, int64_t row, int64_t rows, int64_t col,
                         int64_t cols) {
    const MatrixView whole(x);
    return transpose == Transpose::yes ? whole.rows_from(col, cols).columns(row, rows)
                                       : whole.rows_from(row, rows).columns(col, cols);
  };
  for (const DType dtype : {DType::f32, DType::f64})
    for (const Transpose ta : kBoth)
      for (const Transpose tb : kBoth)
        for (const int threads : {1, 2, 5}) {
          Device device(threads);
          const bool at = ta == Transpose::yes, bt = tb == Transpose::yes;
          const Tensor a = device.random(dtype, {at ? k : m, at ? m : k}, 1);
          const Tensor b = device.random(dtype, {bt ? n : k, bt ? k : n}, 2);
          const Tensor whole = device.random(dtype, {m, n}, 3), parts = device.random(dtype, {m, n}, 3);
          device->gemm(ta, tb, 0.75, a, b, -1.5, whole);
          const std::pair<int64_t, int64_t> rows[] = {{0, 33}, {33, 45}, {78, 72}};
          const std::pair<int64_t, int64_t> cols[] = {{0, 31}, {31, 17}, {48, 84}, {132, 78}};
          for (const auto& [row, row_count] : rows)
            for (const auto& [col, col_count] : cols)
              device->gemm(ta, tb, 0.75, stored(a, ta, row, row_count, 0, k),
                           stored(b, tb, 0, k, col, col_count), -1.5,
                           MatrixView(parts).rows_from(row, row_count).columns(col, col_count));
          EXPECT_EQ(device.read(parts), device.read(whole)) << threads << " threads";
        }
}

// Not numbers stay visible whatever the kernel; a large one meets no overflow on the way.
TEST(Gemm, NotANumberSpreadsToItsRowAndColumnOnly) {
  constexpr int64_t size = 64;
  Device device;
  Values a(size * size, 1.0), b(size * size, 1.0e30);
  a[5 * size + 7] = std::numeric_limits<double>::quiet_NaN();
  const Tensor at = device.make(DType::f32, {size, size}, a), bt = device.make(DType::f32, {size, size}, b);
  const Tensor c = device.zeros(DType::f32, {size, size});
  device->gemm(Transpose::no, Transpose::no, 1.0, at, bt, 0.0, c);
  const Values got = device.read(c);
  for (int64_t i = 0; i < size * size; ++i)
    if (i / size == 5)
      EXPECT_TRUE(std::isnan(got[i])) << i;
    else
      EXPECT_NEAR(got[i] / (size * 1.0e30), 1.0, 1e-6) << i;
}

// The bound holds for numbers of very different size too: the parts of a split operand scale with it.
TEST(Gemm, NumbersOfManySizesKeepTheirDigits) {
  constexpr int64_t size = 96;
  Device device;
  Values a = device.read(device.random(DType::f32, {size, size}, 1));
  Values b = device.read(device.random(DType::f32, {size, size}, 2));
  for (int64_t i = 0; i < size * size; ++i) {
    a[i] = static_cast<float>(std::ldexp(a[i], static_cast<int>(i * 7 % 41) - 20));
    b[i] = static_cast<float>(std::ldexp(b[i], static_cast<int>(i * 11 % 37) - 18));
  }
  const Tensor at = device.make(DType::f32, {size, size}, a), bt = device.make(DType::f32, {size, size}, b);
  const Tensor c = device.zeros(DType::f32, {size, size});
  device->gemm(Transpose::no, Transpose::yes, 1.0, at, bt, 0.0, c);
  const Values got = device.read(c);
  for (int64_t i = 0; i < size; ++i)
    for (int64_t j = 0; j < size; ++j) {
      double sum = 0.0, magnitude = 0.0;
      for (int64_t k = 0; k < size; ++k) {
        sum += a[i * size + k] * b[j * size + k];
        magnitude += std::abs(a[i * size + k] * b[j * size + k]);
      }
      EXPECT_LE(std::abs(got[i * size + j] - sum), (size + 3) * 0x1p-24 * magnitude) << i << ", " << j;
    }
}

TEST(Gemm, ShapesThatDoNotFitAreRefused) {
  Device device;
  const Tensor a = device.zeros(DType::f32, {2, 3}), c = device.zeros(DType::f32, {2, 2});
  EXPECT_THROW(device->gemm(Transpose::no, Transpose::no, 1.0, a, a, 0.0, c), Error);
  const Tensor b = device.zeros(DType::f64, {3, 2});
  EXPECT_THROW(device->gemm(Transpose::no, Transpose::no, 1.0, a, b, 0.0, c), Error);
}

TEST(Bias, IsAddedToEveryRowAndItsGradientIsTheColumnSum) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{1, 1}, {130, 33}, {67, 200}}) {
    Device device;
    const Tensor y = device.random(DType::f32, {rows, cols}, 1), bias = device.random(DType::f32, {cols}, 2);
    const Tensor dbias = device.random(DType::f32, {cols}, 3);
    const Values yv = device.read(y), bv = device.read(bias), before = device.read(dbias);
    device->bias_backward(y, dbias);
    device->add_bias(y, bias);
    const Values after = device.read(y), gradient = device.read(dbias);
    for (int64_t j = 0; j < cols; ++j) {
      double sum = before[static_cast<size_t>(j)], magnitude = std::abs(sum);
      for (int64_t i = 0; i < rows; ++i) {
        const auto at = static_cast<size_t>(i * cols + j);
        EXPECT_EQ(static_cast<float>(after[at]),
                  static_cast<float>(yv[at]) + static_cast<float>(bv[static_cast<size_t>(j)]));
        sum += yv[at];
        magnitude += std::abs(yv[at]);
      }
      EXPECT_LE(std::abs(gradient[static_cast<size_t>(j)] - sum),
                static_cast<double>(rows + 1) * 0x1p-24 * magnitude);
    }
  }
}

}  // namespace
}  // namespace polar
