// Singular values and vectors of one matrix at a time, by cuSOLVER's Jacobi method in F64.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/cuda/runtime.h"
#include "backend/cuda/solver_library.h"

namespace polar::cuda {

// cuSOLVER's column-major view of a row-major (m, n) matrix x: a = x^T (n, m) = u diag(s) v^T, k = min(m, n).
// All in device memory; a is destroyed.
struct SvdArrays {
  double* a = nullptr;     // (n, m)
  double* u = nullptr;     // (n, k)
  double* v = nullptr;     // (m, k), not transposed
  double* s = nullptr;     // (k), descending
  double* work = nullptr;  // what work_elements says
  int* info = nullptr;     // 0: done; above min(m, n): not converged
};

class Svd {
 public:
  // Error if cuSOLVER cannot be loaded or gets no memory.
  Svd();
  // F64 of workspace for x (m, n).
  int64_t work_elements(int64_t m, int64_t n) const;
  // Queues the factorization on the stream.
  void factorize(int64_t m, int64_t n, const SvdArrays& arrays, int64_t work_elements,
                 const Stream& stream) const;

 private:
  struct Destroy {
    void operator()(gesvdjInfo_t parameters) const noexcept {
      solver_library().destroy_parameters(parameters);
    }
  };
  SolverHandle handle_;
  std::unique_ptr<std::remove_pointer_t<gesvdjInfo_t>, Destroy> parameters_;
};

}  // namespace polar::cuda
