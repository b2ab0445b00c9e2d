// Cross-entropy fused with the head.
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::cross_entropy(const CrossEntropy& /*args*/) {
  not_written_yet("cross_entropy");
}

size_t CudaOps::cross_entropy_workspace(int64_t /*rows*/, int64_t /*cols*/, int64_t /*vocabulary*/,
                                        DType /*dtype*/) const {
  not_written_yet("cross_entropy_workspace");
}

}  // namespace polar::cuda
