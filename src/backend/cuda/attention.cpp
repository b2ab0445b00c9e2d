// Attention.
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::attention_forward(const AttentionForward& /*args*/) {
  not_written_yet("attention_forward");
}

void CudaOps::attention_backward(const AttentionBackward& /*args*/) {
  not_written_yet("attention_backward");
}

size_t CudaOps::attention_workspace(const AttentionShape& /*shape*/, DType /*dtype*/) const {
  not_written_yet("attention_workspace");
}

}  // namespace polar::cuda
