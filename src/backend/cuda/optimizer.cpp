// Element-wise optimizer updates.
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::adamw(const AdamW& /*args*/) {
  not_written_yet("adamw");
}

void CudaOps::momentum_update(const MomentumUpdate& /*args*/) {
  not_written_yet("momentum_update");
}

void CudaOps::matrix_update(const MatrixUpdate& /*args*/) {
  not_written_yet("matrix_update");
}

}  // namespace polar::cuda
