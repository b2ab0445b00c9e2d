// The polar family.
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::polar_normalize(const Tensor& /*x*/, double /*safety*/, double /*eps*/) {
  not_written_yet("polar_normalize");
}

void CudaOps::polar_gram(const Tensor& /*x*/, const Tensor& /*a*/) {
  not_written_yet("polar_gram");
}

void CudaOps::polar_polynomial(const Tensor& /*a*/, double /*c1*/, double /*c2*/, const Tensor& /*b*/) {
  not_written_yet("polar_polynomial");
}

void CudaOps::polar_apply(const Tensor& /*x*/, double /*c0*/, const Tensor& /*b*/, const Tensor& /*y*/) {
  not_written_yet("polar_apply");
}

void CudaOps::polar_inner(const Tensor& /*x*/, const Tensor& /*y*/, const Tensor& /*out*/) {
  not_written_yet("polar_inner");
}

void CudaOps::polar_svd(const Tensor& /*x*/, const Tensor& /*u*/, const Tensor& /*workspace*/) {
  not_written_yet("polar_svd");
}

size_t CudaOps::polar_svd_workspace(int64_t /*batch*/, int64_t /*rows*/, int64_t /*cols*/,
                                    DType /*dtype*/) const {
  not_written_yet("polar_svd_workspace");
}

}  // namespace polar::cuda
