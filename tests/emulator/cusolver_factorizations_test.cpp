// The replacement of cuSOLVER's QR, Cholesky and eigenvalue factorizations: their factors are those of what
// was there, and what cannot be is refused.
#include <cusolverDn.h>

#include <cmath>
#include <limits>

#include "device_array.h"

namespace polar::emulator::test {
namespace {

constexpr cusolverStatus_t kSuccess = CUSOLVER_STATUS_SUCCESS, kRefused = CUSOLVER_STATUS_INVALID_VALUE;
constexpr cusolverEigMode_t kVectors = CUSOLVER_EIG_MODE_VECTOR;
constexpr cublasFillMode_t kLower = CUBLAS_FILL_MODE_LOWER;

class CusolverFactorizations : public testing::Test {
 protected:
  void SetUp() override {
    options().lazy_streams = true;
    ASSERT_EQ(cusolverDnCreate(&handle_), kSuccess);
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cusolverDnSetStream(handle_, stream_), kSuccess);
  }
  void TearDown() override {
    cudaStreamDestroy(stream_);
    cusolverDnDestroy(handle_);
  }
  void synchronize() { ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess); }

  const WithOptions defaults_;
  cusolverDnHandle_t handle_ = nullptr;
  cudaStream_t stream_ = nullptr;
  DeviceArray<int> info_{1};
};

// Column-major (rows, cols), columns `leading` elements apart.
template <class T>
std::vector<T> matrix_of(int cols, int leading) {
  std::vector<T> values;
  for (int i = 0; i < leading * cols; ++i)
    values.push_back(static_cast<T>(std::sin(1.7 * i + 0.3 * (i % 7))));
  return values;
}

// Symmetric, n + 1 and more on the diagonal, so that it is positive definite.
template <class T>
std::vector<T> symmetric_of(int n) {
  std::vector<T> values(static_cast<size_t>(n * n));
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j)
      values[static_cast<size_t>(i * n + j)] =
          static_cast<T>(i == j ? n + 1 + i : std::sin(1.0 + i + j) * 0.9);
  return values;
}

TEST_F(CusolverFactorizations, QIsOrthogonalAndSpansTheMatrix) {
  for (const auto& [m, n, leading] : {std::array{6, 4, 6}, {5, 5, 8}, {9, 1, 9}}) {
    SCOPED_TRACE(testing::Message() << m << " x " << n);
    const std::vector<float> values = matrix_of<float>(n, leading);
    const DeviceArray<float> a(values), tau(static_cast<size_t>(n));
    int factors = 0, vectors = 0;
    ASSERT_EQ(cusolverDnSgeqrf_bufferSize(handle_, m, n, a.get(), leading, &factors), kSuccess);
    ASSERT_EQ(cusolverDnSorgqr_bufferSize(handle_, m, n, n, a.get(), leading, tau.get(), &vectors), kSuccess);
    const int elements = std::max(factors, vectors);
    const DeviceArray<float> work(static_cast<size_t>(elements));
    ASSERT_EQ(cusolverDnSgeqrf(handle_, m, n, a.get(), leading, tau.get(), work.get(), elements, info_.get()),
              kSuccess);
    ASSERT_EQ(
        cusolverDnSorgqr(handle_, m, n, n, a.get(), leading, tau.get(), work.get(), elements, info_.get()),
        kSuccess);
    synchronize();
    EXPECT_EQ(info_.read()[0], 0);
    const std::vector<float> q = a.read();
    const auto dot = [&](const std::vector<float>& x, int i, const std::vector<float>& y, int j) {
      double sum = 0.0;
      for (int k = 0; k < m; ++k)
        sum += double{x[static_cast<size_t>(i * leading + k)]} * y[static_cast<size_t>(j * leading + k)];
      return sum;
    };
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) EXPECT_NEAR(dot(q, i, q, j), i == j, 1e-6) << i << ", " << j;
    for (int j = 0; j < n; ++j)
      for (int k = 0; k < m; ++k) {
        double sum = 0.0;
        for (int i = 0; i < n; ++i) sum += dot(q, i, values, j) * q[static_cast<size_t>(i * leading + k)];
        EXPECT_NEAR(sum, values[static_cast<size_t>(j * leading + k)], 1e-6) << k << ", " << j;
      }
  }
}

TEST_F(CusolverFactorizations, CholeskySolvesFromTheLowerTriangleAlone) {
  constexpr int n = 6, cols = 3;
  const std::vector<float> whole = symmetric_of<float>(n);
  std::vector<float> lower = whole;
  for (int col = 1; col < n; ++col)
    for (int row = 0; row < col; ++row)
      lower[static_cast<size_t>(col * n + row)] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> right = matrix_of<float>(cols, n);
  const DeviceArray<float> a(lower), b(right);
  int elements = 0;
  ASSERT_EQ(cusolverDnSpotrf_bufferSize(handle_, kLower, n, a.get(), n, &elements), kSuccess);
  const DeviceArray<float> work(static_cast<size_t>(elements));
  ASSERT_EQ(cusolverDnSpotrf(handle_, kLower, n, a.get(), n, work.get(), elements, info_.get()), kSuccess);
  synchronize();
  EXPECT_EQ(info_.read()[0], 0);
  ASSERT_EQ(cusolverDnSpotrs(handle_, kLower, n, cols, a.get(), n, b.get(), n, info_.get()), kSuccess);
  synchronize();
  EXPECT_EQ(info_.read()[0], 0);
  const std::vector<float> x = b.read();
  for (int col = 0; col < cols; ++col)
    for (int row = 0; row < n; ++row) {
      double sum = 0.0;
      for (int k = 0; k < n; ++k)
        sum += double{whole[static_cast<size_t>(k * n + row)]} * x[static_cast<size_t>(col * n + k)];
      EXPECT_NEAR(sum, right[static_cast<size_t>(col * n + row)], 1e-6);
    }
}

TEST_F(CusolverFactorizations, WhatIsNotPositiveDefiniteHasNoFactor) {
  std::vector<float> values = symmetric_of<float>(4);
  values[10] = -1.0f;  // the third on the diagonal
  const DeviceArray<float> a(values);
  int elements = 0;
  ASSERT_EQ(cusolverDnSpotrf_bufferSize(handle_, kLower, 4, a.get(), 4, &elements), kSuccess);
  const DeviceArray<float> work(static_cast<size_t>(elements));
  ASSERT_EQ(cusolverDnSpotrf(handle_, kLower, 4, a.get(), 4, work.get(), elements, info_.get()), kSuccess);
  synchronize();
  EXPECT_EQ(info_.read()[0], 3);
}

TEST_F(CusolverFactorizations, EigenvectorsGiveTheMatrixAgain) {
  constexpr int n = 7;
  const std::vector<double> values = symmetric_of<double>(n);
  const DeviceArray<double> a(values), w(n);
  int elements = 0;
  ASSERT_EQ(cusolverDnDsyevd_bufferSize(handle_, kVectors, kLower, n, a.get(), n, w.get(), &elements),
            kSuccess);
  const DeviceArray<double> work(static_cast<size_t>(elements));
  ASSERT_EQ(
      cusolverDnDsyevd(handle_, kVectors, kLower, n, a.get(), n, w.get(), work.get(), elements, info_.get()),
      kSuccess);
  synchronize();
  EXPECT_EQ(info_.read()[0], 0);
  const std::vector<double> v = a.read(), lambda = w.read();
  for (size_t k = 1; k < n; ++k) EXPECT_LE(lambda[k - 1], lambda[k]);
  for (int row = 0; row < n; ++row)
    for (int col = 0; col < n; ++col) {
      double sum = 0.0;
      for (int k = 0; k < n; ++k)
        sum += lambda[static_cast<size_t>(k)] * v[static_cast<size_t>(k * n + row)] *
               v[static_cast<size_t>(k * n + col)];
      EXPECT_NEAR(sum, values[static_cast<size_t>(col * n + row)], 1e-13) << row << ", " << col;
    }
}

TEST_F(CusolverFactorizations, WhatCannotBeIsRefused) {
  const DeviceArray<float> a(matrix_of<float>(3, 5)), tau(3);
  int elements = 0;
  EXPECT_EQ(cusolverDnSgeqrf_bufferSize(handle_, 3, 5, nullptr, 3, &elements), kRefused);
  EXPECT_EQ(cusolverDnSgeqrf_bufferSize(handle_, 5, 3, nullptr, 4, &elements), kRefused);
  EXPECT_EQ(cusolverDnSpotrf_bufferSize(handle_, CUBLAS_FILL_MODE_UPPER, 3, nullptr, 3, &elements), kRefused);
  EXPECT_EQ(cusolverDnDsyevd_bufferSize(handle_, CUSOLVER_EIG_MODE_NOVECTOR, kLower, 3, nullptr, 3, nullptr,
                                        &elements),
            kRefused);
  ASSERT_EQ(cusolverDnSgeqrf_bufferSize(handle_, 5, 3, nullptr, 5, &elements), kSuccess);
  const DeviceArray<float> work(static_cast<size_t>(elements));
  const auto run = [&](const DeviceArray<float>& matrix, int size) {
    return cusolverDnSgeqrf(handle_, 5, 3, matrix.get(), 5, tau.get(), work.get(), size, info_.get());
  };
  EXPECT_EQ(run(a, elements - 1), kRefused);
  const DeviceArray<float> small(std::vector<float>(14));
  EXPECT_DEATH(run(small, elements), "cusolverDnSgeqrf: 60 bytes at offset 0 of a matrix of 56");
  EXPECT_DEATH(run(a, elements + 1), "cusolverDnSgeqrf: [0-9]+ bytes at offset 0 of a workspace of");
}

}  // namespace
}  // namespace polar::emulator::test
