#include "backend/cuda/cuda_ops.h"
#include "base/error.h"

namespace polar::cuda {

void CudaOps::polar_resolvent(const PolarResolvent&) {
  fail_usage("optimizer oracle qdwh or zolo_pd: not on CUDA yet; expected another oracle");
}
size_t CudaOps::polar_resolvent_workspace(int64_t, int64_t, int64_t, DType) const {
  return 0;
}
void CudaOps::symmetric_power(const Tensor&, double, const Tensor&, const Tensor&) {
  fail_usage("optimizer oracle gram_eigh: not on CUDA yet; expected another oracle");
}
size_t CudaOps::symmetric_power_workspace(int64_t, int64_t, DType) const {
  return 0;
}

}  // namespace polar::cuda
