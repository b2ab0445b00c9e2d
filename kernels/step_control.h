// Launcher of the decision about one optimizer step (StepControl in ops/ops.h). All tensors are F64 in device
// memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace polar::kernels {

struct StepControlArguments {
  const double* loss_sum;
  const double* gradient_squares;
  const double* valid_tokens;
  double gradient_tokens, clip_norm;
  bool guard;
  double guard_deviations;
  int64_t guard_window, guard_minimum, guard_maximum_skips;
  double* window;   // (2 + 2 guard_window): count, reserved, losses, norms; read and written
  double* control;  // (7), see ControlIndex in ops/ops.h; read and written
};
cudaError_t step_control(const StepControlArguments& args, cudaStream_t stream);

}  // namespace polar::kernels
