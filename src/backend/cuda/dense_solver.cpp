#include "backend/cuda/dense_solver.h"

#include <algorithm>
#include <limits>

#include "backend/cuda/cuda_ops.h"
#include "base/error.h"

namespace polar::cuda {
namespace {

constexpr cusolverEigMode_t kVectors = CUSOLVER_EIG_MODE_VECTOR;
constexpr cublasFillMode_t kLower = CUBLAS_FILL_MODE_LOWER;

int as_int(int64_t size) {
  if (size < 1 || size > std::numeric_limits<int>::max())
    fail("cuSOLVER: found {} rows or columns, expected 1 to 2147483647; use another oracle for this matrix",
         size);
  return static_cast<int>(size);
}

// What a query says of a workspace. It is counted in 32 bits and overflows for matrices of millions of rows.
int64_t checked_size(int elements, int64_t rows, int64_t cols) {
  if (elements < 0)
    fail("cuSOLVER cannot factor a matrix of {} x {}: too large; use another oracle for this matrix", rows,
         cols);
  return elements;
}

}  // namespace

DenseSolver::DenseSolver() : handle_(make_solver_handle()) {}

const SolverLibrary& DenseSolver::on(const Stream& stream) const {
  CUSOLVER_CHECK(solver_library().set_stream(handle_.get(), stream.get()));
  return solver_library();
}

int64_t DenseSolver::qr_work(int64_t rows, int64_t cols) const {
  const int m = as_int(rows), n = as_int(cols);
  int factors = 0, vectors = 0;
  CUSOLVER_CHECK(solver_library().qr_buffer_size(handle_.get(), m, n, nullptr, m, &factors));
  CUSOLVER_CHECK(solver_library().make_q_buffer_size(handle_.get(), m, n, n, nullptr, m, nullptr, &vectors));
  return std::max(checked_size(factors, rows, cols), checked_size(vectors, rows, cols));
}

int64_t DenseSolver::cholesky_work(int64_t size) const {
  const int n = as_int(size);
  int elements = 0;
  CUSOLVER_CHECK(solver_library().cholesky_buffer_size(handle_.get(), kLower, n, nullptr, n, &elements));
  return checked_size(elements, size, size);
}

int64_t DenseSolver::eigen_work(int64_t size) const {
  const int n = as_int(size);
  int elements = 0;
  CUSOLVER_CHECK(
      solver_library().eigen_buffer_size(handle_.get(), kVectors, kLower, n, nullptr, n, nullptr, &elements));
  return checked_size(elements, size, size);
}

void DenseSolver::qr(int64_t rows, int64_t cols, float* a, float* tau, const Work<float>& work, int* info,
                     const Stream& stream) const {
  const int m = as_int(rows), n = as_int(cols), size = as_int(work.elements);
  const SolverLibrary& library = on(stream);
  CUSOLVER_CHECK(library.qr(handle_.get(), m, n, a, m, tau, work.memory, size, info));
  CUSOLVER_CHECK(library.make_q(handle_.get(), m, n, n, a, m, tau, work.memory, size, info));
}

void DenseSolver::cholesky(int64_t size, float* a, const Work<float>& work, int* info,
                           const Stream& stream) const {
  const int n = as_int(size);
  CUSOLVER_CHECK(
      on(stream).cholesky(handle_.get(), kLower, n, a, n, work.memory, as_int(work.elements), info));
}

void DenseSolver::solve(int64_t size, int64_t cols, const float* factor, float* b, int* info,
                        const Stream& stream) const {
  const int n = as_int(size);
  CUSOLVER_CHECK(on(stream).cholesky_solve(handle_.get(), kLower, n, as_int(cols), factor, n, b, n, info));
}

void DenseSolver::eigen(int64_t size, double* a, double* values, const Work<double>& work, int* info,
                        const Stream& stream) const {
  const int n = as_int(size);
  CUSOLVER_CHECK(on(stream).eigen(handle_.get(), kVectors, kLower, n, a, n, values, work.memory,
                                  as_int(work.elements), info));
}

const DenseSolver& CudaOps::dense_solver() const {
  if (dense_solver_ == nullptr) {
    use_device(device_);
    dense_solver_ = std::make_unique<DenseSolver>();
  }
  return *dense_solver_;
}

}  // namespace polar::cuda
