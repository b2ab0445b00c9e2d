// cuSOLVER's QR, Cholesky and eigenvalue factorizations, of one matrix at a time. Matrices are stored by
// columns, which follow each other; all arrays in device memory. Everything is queued on the stream; what a
// factorization has to say it writes to `info`: 0 if it was done.
#pragma once

#include <cstdint>

#include "backend/cuda/runtime.h"
#include "backend/cuda/solver_library.h"

namespace polar::cuda {

class DenseSolver {
 public:
  // Error if cuSOLVER cannot be loaded or gets no memory.
  DenseSolver();

  // Elements of workspace: F32 of qr and cholesky, F64 of eigen. Error for sides that cuSOLVER cannot do.
  int64_t qr_work(int64_t rows, int64_t cols) const;
  int64_t cholesky_work(int64_t size) const;
  int64_t eigen_work(int64_t size) const;

  template <class T>
  struct Work {
    T* memory;
    int64_t elements;
  };
  // a (rows, cols), rows >= cols: becomes Q of a = Q R, columns orthonormal. tau: (cols).
  void qr(int64_t rows, int64_t cols, float* a, float* tau, const Work<float>& work, int* info,
          const Stream& stream) const;
  // a (size, size), symmetric positive definite: becomes its factor, for solve. info > 0: it is not.
  void cholesky(int64_t size, float* a, const Work<float>& work, int* info, const Stream& stream) const;
  // b (size, cols) = a^{-1} b
  void solve(int64_t size, int64_t cols, const float* factor, float* b, int* info,
             const Stream& stream) const;
  // a (size, size), symmetric: becomes its eigenvectors, columns in the order of `values`, which ascend.
  // info > 0: not converged.
  void eigen(int64_t size, double* a, double* values, const Work<double>& work, int* info,
             const Stream& stream) const;

 private:
  const SolverLibrary& on(const Stream& stream) const;
  SolverHandle handle_;
};

}  // namespace polar::cuda
