// Singular values of matrices in host memory, for diagnostics.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ops/ops.h"

namespace polar {

// Through the eigenvalues of the smaller square in fp64 (`threads` of the CPU backend; 0: as it likes): right
// to about 3e-8 of the largest, below the rounding of fp32 matrices, at a fraction of the cost of an SVD.
class Spectrum {
 public:
  explicit Spectrum(int threads);
  // x: row-major (m, n), changed. In descending order, min(m, n) of them; those below 1e-7 of the largest are
  // 0. Error for NaN or infinity.
  std::vector<double> singular_values(std::vector<double>& x, int64_t m, int64_t n) const;
  // ||u^T u - I||_F / sqrt(s) for the short side s.
  double orthogonality_error(std::vector<double>& u, int64_t m, int64_t n) const;

 private:
  std::vector<double> square(std::vector<double>& x, int64_t m, int64_t n) const;

  std::unique_ptr<Ops> ops_;
};

}  // namespace polar
