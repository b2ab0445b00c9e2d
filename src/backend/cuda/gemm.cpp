// Matrix products.
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::gemm(Transpose /*transpose_a*/, Transpose /*transpose_b*/, double /*alpha*/,
                   const MatrixView& /*a*/, const MatrixView& /*b*/, double /*beta*/,
                   const MatrixView& /*c*/) {
  not_written_yet("gemm");
}

}  // namespace polar::cuda
