// Per-head RMSNorm and rotary embedding.
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::qk_norm_rope_forward(const QkNormRopeForward& /*args*/) {
  not_written_yet("qk_norm_rope_forward");
}

void CudaOps::qk_norm_rope_backward(const QkNormRopeBackward& /*args*/) {
  not_written_yet("qk_norm_rope_backward");
}

size_t CudaOps::qk_norm_rope_backward_workspace(int64_t /*rows*/, int64_t /*heads*/, int64_t /*head_dim*/,
                                                DType /*dtype*/) const {
  not_written_yet("qk_norm_rope_backward_workspace");
}

}  // namespace polar::cuda
