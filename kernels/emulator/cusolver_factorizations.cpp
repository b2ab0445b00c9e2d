// The replacement of cuSOLVER's QR and Cholesky factorizations in F32 and eigenvalues in F64, by LAPACK.
#include <cblas.h>  // blasint, the integers of LAPACK

#include <algorithm>
#include <cstring>
#include <functional>
#include <vector>

#include "cusolver.h"

extern "C" {
void sgeqrf_(const blasint* m, const blasint* n, float* a, const blasint* lda, float* tau, float* work,
             const blasint* lwork, blasint* info);
void sorgqr_(const blasint* m, const blasint* n, const blasint* k, float* a, const blasint* lda,
             const float* tau, float* work, const blasint* lwork, blasint* info);
void spotrf_(const char* uplo, const blasint* n, float* a, const blasint* lda, blasint* info);
void spotrs_(const char* uplo, const blasint* n, const blasint* nrhs, const float* a, const blasint* lda,
             float* b, const blasint* ldb, blasint* info);
void dsyevd_(const char* jobz, const char* uplo, const blasint* n, double* a, const blasint* lda, double* w,
             double* work, const blasint* lwork, blasint* iwork, const blasint* liwork, blasint* info);
}

namespace polar::emulator {
namespace {

// Elements of the workspaces: more than the methods could do without, so that a caller who does not ask is
// found out.
int qr_elements(int m, int n) {
  return 32 * (m + n) + 1024;
}
int q_elements(int m, int n) {
  return 64 * m + n;
}
int cholesky_elements(int n) {
  return 16 * n + 256;
}
int eigen_elements(int n) {
  return 2 * n * n + 6 * n + 1024;
}

template <class T>
void check_columns(const char* call, const char* which, const T* from, int rows, int cols, int leading) {
  const auto elements =
      static_cast<size_t>(leading) * static_cast<size_t>(cols - 1) + static_cast<size_t>(rows);
  check_device_range(call, which, from, elements * sizeof(T));
}

// What a call does at its turn in the stream; it says itself whether it was done.
cusolverStatus_t queue(cusolverDnHandle_t handle, int* info, std::function<blasint()> work) {
  const auto run = [info, work = std::move(work)] { *info = static_cast<int>(work()); };
  const cudaError_t queued = enqueue(handle->stream, run);
  return queued == cudaSuccess ? CUSOLVER_STATUS_SUCCESS : CUSOLVER_STATUS_EXECUTION_FAILED;
}

// A workspace holds anything afterwards.
template <class T>
void spoil(T* work, int elements) {
  std::memset(work, 0xff, static_cast<size_t>(elements) * sizeof(T));
}

template <class Call>
blasint with_best_workspace(const Call& call) {
  const blasint query = -1;
  float best = 0.0f;
  const blasint info = call(&best, &query);
  if (info != 0) return info;
  std::vector<float> work(static_cast<size_t>(best) + 1);
  const auto size = static_cast<blasint>(work.size());
  return call(work.data(), &size);
}

blasint qr(blasint m, blasint n, float* a, blasint lda, float* tau) {
  return with_best_workspace([&](float* work, const blasint* size) {
    blasint info = 0;
    sgeqrf_(&m, &n, a, &lda, tau, work, size, &info);
    return info;
  });
}

blasint make_q(blasint m, blasint n, blasint k, float* a, blasint lda, const float* tau) {
  return with_best_workspace([&](float* work, const blasint* size) {
    blasint info = 0;
    sorgqr_(&m, &n, &k, a, &lda, tau, work, size, &info);
    return info;
  });
}

blasint eigen(blasint n, double* a, blasint lda, double* w) {
  std::vector<double> work(static_cast<size_t>(1 + 6 * n + 2 * n * n));
  std::vector<blasint> integers(static_cast<size_t>(3 + 5 * n));
  const auto size = static_cast<blasint>(work.size()), integer_size = static_cast<blasint>(integers.size());
  blasint info = 0;
  dsyevd_("V", "L", &n, a, &lda, w, work.data(), &size, integers.data(), &integer_size, &info);
  return info;
}

cusolverStatus_t check_square(cublasFillMode_t part, int n, int lda) {
  if (part != CUBLAS_FILL_MODE_LOWER) return refused("only the lower triangle is emulated");
  if (n < 1) return refused("an empty matrix");
  if (lda < n) return refused("a leading dimension is too small");
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t check_tall(int m, int n, int k, int lda) {
  if (n < 1 || k < 1) return refused("an empty matrix");
  if (m < n || n < k) return refused("only matrices with as many rows as columns, or more, are emulated");
  if (lda < m) return refused("a leading dimension is too small");
  return CUSOLVER_STATUS_SUCCESS;
}

}  // namespace
}  // namespace polar::emulator

using namespace polar::emulator;  // NOLINT: what follows are the C functions of cuSOLVER

#define REQUIRE_SUCCESS(...) \
  if (const cusolverStatus_t status = (__VA_ARGS__); status != CUSOLVER_STATUS_SUCCESS) return status
#define REQUIRE_HANDLE(handle) \
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED
#define REQUIRE_ELEMENTS(given, needed) \
  if (given < needed) return refused("the workspace is too small")

extern "C" {

cusolverStatus_t cusolverDnSgeqrf_bufferSize(cusolverDnHandle_t handle, int m, int n, float*, int lda,
                                             int* elements) {
  REQUIRE_HANDLE(handle);
  REQUIRE_SUCCESS(check_tall(m, n, n, lda));
  *elements = qr_elements(m, n);
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSgeqrf(cusolverDnHandle_t handle, int m, int n, float* a, int lda, float* tau,
                                  float* work, int elements, int* info) {
  const std::lock_guard lock(runtime().mutex);
  REQUIRE_HANDLE(handle);
  REQUIRE_SUCCESS(check_tall(m, n, n, lda));
  REQUIRE_ELEMENTS(elements, qr_elements(m, n));
  check_columns("cusolverDnSgeqrf", "matrix", a, m, n, lda);
  check_columns("cusolverDnSgeqrf", "tau", tau, n, 1, n);
  check_columns("cusolverDnSgeqrf", "workspace", work, elements, 1, elements);
  check_columns("cusolverDnSgeqrf", "info", info, 1, 1, 1);
  return queue(handle, info, [=] {
    spoil(work, elements);
    return qr(m, n, a, lda, tau);
  });
}

cusolverStatus_t cusolverDnSorgqr_bufferSize(cusolverDnHandle_t handle, int m, int n, int k, const float*,
                                             int lda, const float*, int* elements) {
  REQUIRE_HANDLE(handle);
  REQUIRE_SUCCESS(check_tall(m, n, k, lda));
  *elements = q_elements(m, n);
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSorgqr(cusolverDnHandle_t handle, int m, int n, int k, float* a, int lda,
                                  const float* tau, float* work, int elements, int* info) {
  const std::lock_guard lock(runtime().mutex);
  REQUIRE_HANDLE(handle);
  REQUIRE_SUCCESS(check_tall(m, n, k, lda));
  REQUIRE_ELEMENTS(elements, q_elements(m, n));
  check_columns("cusolverDnSorgqr", "matrix", a, m, n, lda);
  check_columns("cusolverDnSorgqr", "tau", tau, k, 1, k);
  check_columns("cusolverDnSorgqr", "workspace", work, elements, 1, elements);
  check_columns("cusolverDnSorgqr", "info", info, 1, 1, 1);
  return queue(handle, info, [=] {
    spoil(work, elements);
    return make_q(m, n, k, a, lda, tau);
  });
}

cusolverStatus_t cusolverDnSpotrf_bufferSize(cusolverDnHandle_t handle, cublasFillMode_t part, int n, float*,
                                             int lda, int* elements) {
  REQUIRE_HANDLE(handle);
  REQUIRE_SUCCESS(check_square(part, n, lda));
  *elements = cholesky_elements(n);
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnSpotrf(cusolverDnHandle_t handle, cublasFillMode_t part, int n, float* a, int lda,
                                  float* work, int elements, int* info) {
  const std::lock_guard lock(runtime().mutex);
  REQUIRE_HANDLE(handle);
  REQUIRE_SUCCESS(check_square(part, n, lda));
  REQUIRE_ELEMENTS(elements, cholesky_elements(n));
  check_columns("cusolverDnSpotrf", "matrix", a, n, n, lda);
  check_columns("cusolverDnSpotrf", "workspace", work, elements, 1, elements);
  check_columns("cusolverDnSpotrf", "info", info, 1, 1, 1);
  return queue(handle, info, [=] {
    spoil(work, elements);
    const blasint size = n, leading = lda;
    blasint result = 0;
    spotrf_("L", &size, a, &leading, &result);
    return result;
  });
}

cusolverStatus_t cusolverDnSpotrs(cusolverDnHandle_t handle, cublasFillMode_t part, int n, int cols,
                                  const float* a, int lda, float* b, int ldb, int* info) {
  const std::lock_guard lock(runtime().mutex);
  REQUIRE_HANDLE(handle);
  REQUIRE_SUCCESS(check_square(part, n, lda));
  if (cols < 1 || ldb < n) return refused("a right-hand side is empty or cut");
  check_columns("cusolverDnSpotrs", "factor", a, n, n, lda);
  check_columns("cusolverDnSpotrs", "right-hand side", b, n, cols, ldb);
  check_columns("cusolverDnSpotrs", "info", info, 1, 1, 1);
  return queue(handle, info, [=] {
    const blasint size = n, count = cols, leading = lda, b_leading = ldb;
    blasint result = 0;
    spotrs_("L", &size, &count, a, &leading, b, &b_leading, &result);
    return result;
  });
}

cusolverStatus_t cusolverDnDsyevd_bufferSize(cusolverDnHandle_t handle, cusolverEigMode_t mode,
                                             cublasFillMode_t part, int n, const double*, int lda,
                                             const double*, int* elements) {
  REQUIRE_HANDLE(handle);
  if (mode != CUSOLVER_EIG_MODE_VECTOR) return refused("only eigenvalues with vectors are emulated");
  REQUIRE_SUCCESS(check_square(part, n, lda));
  *elements = eigen_elements(n);
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDsyevd(cusolverDnHandle_t handle, cusolverEigMode_t mode, cublasFillMode_t part,
                                  int n, double* a, int lda, double* w, double* work, int elements,
                                  int* info) {
  const std::lock_guard lock(runtime().mutex);
  REQUIRE_HANDLE(handle);
  if (mode != CUSOLVER_EIG_MODE_VECTOR) return refused("only eigenvalues with vectors are emulated");
  REQUIRE_SUCCESS(check_square(part, n, lda));
  REQUIRE_ELEMENTS(elements, eigen_elements(n));
  check_columns("cusolverDnDsyevd", "matrix", a, n, n, lda);
  check_columns("cusolverDnDsyevd", "eigenvalues", w, n, 1, n);
  check_columns("cusolverDnDsyevd", "workspace", work, elements, 1, elements);
  check_columns("cusolverDnDsyevd", "info", info, 1, 1, 1);
  return queue(handle, info, [=] {
    spoil(work, elements);
    return eigen(n, a, lda, w);
  });
}

}  // extern "C"
