// The decision about one optimizer step.
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::step_control(const StepControl& /*args*/) {
  not_written_yet("step_control");
}

}  // namespace polar::cuda
