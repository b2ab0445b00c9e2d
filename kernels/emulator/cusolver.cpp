// The replacement of cuSOLVER: handles, and singular values and vectors in F64 (gesvdj), by LAPACK.
#include <cblas.h>  // blasint, the integers of LAPACK

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <vector>

#include "cusolver.h"

extern "C" void dgesdd_(const char* job, const blasint* m, const blasint* n, double* a, const blasint* lda,
                        double* s, double* u, const blasint* ldu, double* vt, const blasint* ldvt,
                        double* work, const blasint* lwork, blasint* iwork, blasint* info);

struct gesvdjInfo {
  int sweeps = 0;
};

namespace polar::emulator {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct SvdProblem {
  int m = 0, n = 0, lda = 0, ldu = 0, ldv = 0;
  double *a = nullptr, *s = nullptr, *u = nullptr, *v = nullptr, *work = nullptr;
  int elements = 0;
  int* info = nullptr;

  int small() const { return std::min(m, n); }
};

// More than the method could do without, so that a caller who does not ask is found out.
int needed_elements(int m, int n) {
  return m * n + 2 * std::min(m, n) * std::min(m, n) + 1024;
}

void fill_columns(double* to, int rows, int cols, int leading, double value) {
  for (int col = 0; col < cols; ++col) std::fill_n(to + size_t{1} * col * leading, rows, value);
}

// LAPACK gives v^T, cuSOLVER v.
blasint factorize(const SvdProblem& p, std::vector<double>& vt) {
  const blasint m = p.m, n = p.n, lda = p.lda, ldu = p.ldu, small = p.small(), query = -1;
  std::vector<blasint> integers(8 * static_cast<size_t>(small));
  blasint info = 0;
  double best = 0.0;
  dgesdd_("S", &m, &n, p.a, &lda, p.s, p.u, &ldu, vt.data(), &small, &best, &query, integers.data(), &info);
  std::vector<double> work(static_cast<size_t>(best) + 1);
  const auto size = static_cast<blasint>(work.size());
  if (info == 0)
    dgesdd_("S", &m, &n, p.a, &lda, p.s, p.u, &ldu, vt.data(), &small, work.data(), &size, integers.data(),
            &info);
  return info;
}

// A matrix that is not finite: Jacobi rotations never get it diagonal.
bool is_finite(const SvdProblem& p) {
  for (int col = 0; col < p.n; ++col)
    for (int row = 0; row < p.m; ++row)
      if (!std::isfinite(p.a[row + size_t{1} * col * p.lda])) return false;
  return true;
}

void run(const SvdProblem& p) {
  std::memset(p.work, 0xff, static_cast<size_t>(p.elements) * sizeof(double));
  std::vector<double> vt(static_cast<size_t>(p.small()) * static_cast<size_t>(p.n));
  const bool done = is_finite(p) && factorize(p, vt) == 0;
  *p.info = done ? 0 : p.small() + 1;
  for (int col = 0; col < p.n; ++col)
    for (int k = 0; k < p.small(); ++k)
      p.v[col + size_t{1} * k * p.ldv] = done ? vt[k + size_t{1} * col * p.small()] : kNaN;
  if (!done) {
    fill_columns(p.u, p.m, p.small(), p.ldu, kNaN);
    std::fill_n(p.s, p.small(), kNaN);
  }
  fill_columns(p.a, p.m, p.n, p.lda, kNaN);  // what it holds afterwards is not said
}

cusolverStatus_t check_shape(cusolverEigMode_t mode, int economy, int m, int n, int lda, int ldu, int ldv) {
  if (mode != CUSOLVER_EIG_MODE_VECTOR || economy != 1) return refused("only economy vectors are emulated");
  if (m < 1 || n < 1) return refused("an empty matrix");
  if (lda < m || ldu < m || ldv < n) return refused("a leading dimension is too small");
  return CUSOLVER_STATUS_SUCCESS;
}

void check_memory(const SvdProblem& p) {
  const auto check = [](const char* which, const double* from, int rows, int cols, int leading) {
    const auto elements =
        static_cast<size_t>(leading) * static_cast<size_t>(cols - 1) + static_cast<size_t>(rows);
    check_device_range("cusolverDnDgesvdj", which, from, elements * sizeof(double));
  };
  check("matrix", p.a, p.m, p.n, p.lda);
  check("u", p.u, p.m, p.small(), p.ldu);
  check("v", p.v, p.n, p.small(), p.ldv);
  check("s", p.s, p.small(), 1, p.small());
  check("workspace", p.work, p.elements, 1, p.elements);
  check_device_range("cusolverDnDgesvdj", "info", p.info, sizeof *p.info);
}

}  // namespace

cusolverStatus_t refused(const char* why) {
  note(fmt::format("cuSOLVER refuses the factorization: {}", why));
  return CUSOLVER_STATUS_INVALID_VALUE;
}

}  // namespace polar::emulator

using namespace polar::emulator;  // NOLINT: what follows are the C functions of cuSOLVER

extern "C" {

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
  *handle = new cusolverDnContext;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
  delete handle;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  if (handle == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  handle->stream = stream;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnCreateGesvdjInfo(gesvdjInfo_t* parameters) {
  *parameters = new gesvdjInfo;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroyGesvdjInfo(gesvdjInfo_t parameters) {
  delete parameters;
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDgesvdj_bufferSize(cusolverDnHandle_t handle, cusolverEigMode_t mode, int economy,
                                              int m, int n, const double*, int lda, const double*,
                                              const double*, int ldu, const double*, int ldv, int* elements,
                                              gesvdjInfo_t parameters) {
  if (handle == nullptr || parameters == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  const cusolverStatus_t status = check_shape(mode, economy, m, n, lda, ldu, ldv);
  if (status == CUSOLVER_STATUS_SUCCESS) *elements = needed_elements(m, n);
  return status;
}

cusolverStatus_t cusolverDnDgesvdj(cusolverDnHandle_t handle, cusolverEigMode_t mode, int economy, int m,
                                   int n, double* a, int lda, double* s, double* u, int ldu, double* v,
                                   int ldv, double* work, int elements, int* info, gesvdjInfo_t parameters) {
  const std::lock_guard lock(runtime().mutex);
  if (handle == nullptr || parameters == nullptr) return CUSOLVER_STATUS_NOT_INITIALIZED;
  const cusolverStatus_t status = check_shape(mode, economy, m, n, lda, ldu, ldv);
  if (status != CUSOLVER_STATUS_SUCCESS) return status;
  if (elements < needed_elements(m, n)) return refused("the workspace is too small");
  const SvdProblem problem{m, n, lda, ldu, ldv, a, s, u, v, work, elements, info};
  check_memory(problem);
  const cudaError_t queued = enqueue(handle->stream, [problem] { run(problem); });
  return queued == cudaSuccess ? CUSOLVER_STATUS_SUCCESS : CUSOLVER_STATUS_EXECUTION_FAILED;
}

}  // extern "C"
