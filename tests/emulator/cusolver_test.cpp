// The replacement of cuSOLVER: what it factorizes is what was there, and what it refuses.
#include <cusolverDn.h>

#include <cmath>
#include <limits>

#include "device_array.h"

namespace polar::emulator::test {
namespace {

constexpr cusolverStatus_t kSuccess = CUSOLVER_STATUS_SUCCESS;
constexpr cusolverEigMode_t kVectors = CUSOLVER_EIG_MODE_VECTOR;

// A column-major (m, n) matrix whose columns are `leading` elements apart, and its factors.
struct Factorization {
  int m, n, leading, small = std::min(m, n);
  DeviceArray<double> a, s{static_cast<size_t>(small)},
      u{static_cast<size_t>(m) * static_cast<size_t>(small)},
      v{static_cast<size_t>(n) * static_cast<size_t>(small)};
  DeviceArray<int> info{1};

  Factorization(int m_, int n_, int leading_, const std::vector<double>& values)
      : m(m_), n(n_), leading(leading_), a(values) {}
};

class Cusolver : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(cusolverDnCreate(&handle_), kSuccess);
    ASSERT_EQ(cusolverDnCreateGesvdjInfo(&parameters_), kSuccess);
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cusolverDnSetStream(handle_, stream_), kSuccess);
  }
  void TearDown() override {
    cudaStreamDestroy(stream_);
    cusolverDnDestroyGesvdjInfo(parameters_);
    cusolverDnDestroy(handle_);
  }
  int buffer_size(const Factorization& f) {
    int elements = 0;
    EXPECT_EQ(cusolverDnDgesvdj_bufferSize(handle_, kVectors, 1, f.m, f.n, f.a.get(), f.leading, f.s.get(),
                                           f.u.get(), f.m, f.v.get(), f.n, &elements, parameters_),
              kSuccess);
    return elements;
  }
  cusolverStatus_t run(const Factorization& f, const DeviceArray<double>& work, int elements) {
    return cusolverDnDgesvdj(handle_, kVectors, 1, f.m, f.n, f.a.get(), f.leading, f.s.get(), f.u.get(), f.m,
                             f.v.get(), f.n, work.get(), elements, f.info.get(), parameters_);
  }
  cusolverStatus_t run(const Factorization& f) {
    const int elements = buffer_size(f);
    const DeviceArray<double> work(static_cast<size_t>(elements));
    const cusolverStatus_t status = run(f, work, elements);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    return status;
  }

  const WithOptions defaults_;
  cusolverDnHandle_t handle_ = nullptr;
  gesvdjInfo_t parameters_ = nullptr;
  cudaStream_t stream_ = nullptr;
};

std::vector<double> matrix_of(int n, int leading) {
  std::vector<double> values;
  for (int i = 0; i < leading * n; ++i) values.push_back(std::sin(1.7 * i + 0.3 * (i % 7)));
  return values;
}

TEST_F(Cusolver, FactorsGiveTheMatrixAgain) {
  options().lazy_streams = true;
  for (const auto& [m, n, leading] : {std::array{5, 3, 5}, {3, 5, 4}, {4, 4, 7}, {1, 6, 1}}) {
    SCOPED_TRACE(testing::Message() << m << " x " << n);
    const std::vector<double> values = matrix_of(n, leading);
    const Factorization f(m, n, leading, values);
    ASSERT_EQ(run(f), kSuccess);
    EXPECT_EQ(f.info.read()[0], 0);
    const std::vector<double> s = f.s.read(), u = f.u.read(), v = f.v.read();
    for (int row = 0; row < m; ++row)
      for (int col = 0; col < n; ++col) {
        double sum = 0.0;
        for (int k = 0; k < f.small; ++k)
          sum += u[static_cast<size_t>(k * m + row)] * s[static_cast<size_t>(k)] *
                 v[static_cast<size_t>(k * n + col)];
        EXPECT_NEAR(sum, values[static_cast<size_t>(col * leading + row)], 1e-13) << row << ", " << col;
      }
    for (size_t k = 1; k < s.size(); ++k) EXPECT_GE(s[k - 1], s[k]);
    EXPECT_TRUE(std::isnan(f.a.read()[0])) << "nobody may count on what the matrix holds afterwards";
  }
}

TEST_F(Cusolver, NaNDoesNotConverge) {
  std::vector<double> values = matrix_of(3, 5);
  values[7] = std::numeric_limits<double>::quiet_NaN();
  const Factorization f(5, 3, 5, values);
  ASSERT_EQ(run(f), kSuccess);
  EXPECT_EQ(f.info.read()[0], 4);
  EXPECT_TRUE(std::isnan(f.s.read()[0]));
}

TEST_F(Cusolver, WhatCannotBeIsRefused) {
  const Factorization f(5, 3, 5, matrix_of(3, 5)), short_leading(5, 3, 4, matrix_of(3, 5));
  const int elements = buffer_size(f);
  const DeviceArray<double> work(static_cast<size_t>(elements));
  EXPECT_EQ(run(f, work, elements - 1), CUSOLVER_STATUS_INVALID_VALUE);
  EXPECT_EQ(run(short_leading, work, elements), CUSOLVER_STATUS_INVALID_VALUE);
  const DeviceArray<double> less(static_cast<size_t>(elements) - 1);
  EXPECT_DEATH(run(f, less, elements), "cusolverDnDgesvdj: [0-9]+ bytes at offset 0 of a workspace of");
  const Factorization small(5, 3, 5, std::vector<double>(14));
  EXPECT_DEATH(run(small, work, elements), "cusolverDnDgesvdj: 120 bytes at offset 0 of a matrix of 112");
}

}  // namespace
}  // namespace polar::emulator::test
