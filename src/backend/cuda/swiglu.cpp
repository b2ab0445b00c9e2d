// SwiGLU.
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::swiglu_forward(const MatrixView& /*gate_up*/, const MatrixView& /*out*/) {
  not_written_yet("swiglu_forward");
}

void CudaOps::swiglu_backward(const MatrixView& /*dout*/, const MatrixView& /*gate_up*/,
                              const MatrixView& /*dgate_up*/) {
  not_written_yet("swiglu_backward");
}

}  // namespace polar::cuda
