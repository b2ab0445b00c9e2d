// Sums that do not depend on how their terms are cut.
#include "kernels/exact_sum.h"

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

static_assert(kernels::kFixedPointDigits == kExactDigits && kernels::kFixedPointAtom == kExactAtom &&
              kernels::kFixedPointPlaces == -kExactExponent);

void CudaOps::exact_squares(const Tensor& x, const Tensor& digits, bool accumulate) {
  require(x.dtype == DType::f32 && is(digits, DType::f64, kExactDigits),
          "exact_squares: x F32, digits F64 (kExactDigits)");
  CUDA_CHECK(kernels::exact_squares(x.as<const float>(), x.count(), digits.as<double>(), accumulate,
                                    scratch<double>(), stream_.get()));
}

void CudaOps::exact_value(const Tensor& digits, const Tensor& out) {
  require(is(digits, DType::f64, kExactDigits) && is(out, DType::f64, 1),
          "exact_value: digits F64 (kExactDigits), out F64 (1)");
  CUDA_CHECK(kernels::exact_value(digits.as<const double>(), out.as<double>(), stream_.get()));
}

}  // namespace polar::cuda
