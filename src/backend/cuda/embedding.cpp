// Embedding.
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::embedding_forward(const Tensor& /*ids*/, const Tensor& /*table*/, const MatrixView& /*out*/) {
  not_written_yet("embedding_forward");
}

void CudaOps::embedding_backward(const Tensor& /*ids*/, const MatrixView& /*dout*/, const Tensor& /*dtable*/,
                                 const Tensor& /*workspace*/) {
  not_written_yet("embedding_backward");
}

size_t CudaOps::embedding_backward_workspace(int64_t /*rows*/) const {
  not_written_yet("embedding_backward_workspace");
}

}  // namespace polar::cuda
