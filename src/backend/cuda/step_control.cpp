// The decision about one optimizer step.
#include "kernels/step_control.h"

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::step_control(const StepControl& args) {
  require(is(args.loss_sum, DType::f64, 1) && is(args.gradient_squares, DType::f64, 1) &&
              is(args.control, DType::f64, kControlSize),
          "step_control: loss_sum and gradient_squares F64 (1), control F64 (kControlSize)");
  require(is(args.valid_tokens, DType::f64, 1), "step_control: valid_tokens F64 (1)");
  require(args.guard_window > 0 && is(args.window, DType::f64, 2 + 2 * args.guard_window),
          "step_control: window F64 (2 + 2 * guard_window)");
  CUDA_CHECK(kernels::step_control({.loss_sum = args.loss_sum.as<const double>(),
                                    .gradient_squares = args.gradient_squares.as<const double>(),
                                    .valid_tokens = args.valid_tokens.as<const double>(),
                                    .gradient_tokens = args.gradient_tokens,
                                    .clip_norm = args.clip_norm,
                                    .guard = args.guard,
                                    .guard_deviations = args.guard_deviations,
                                    .guard_window = args.guard_window,
                                    .guard_minimum = args.guard_minimum,
                                    .guard_maximum_skips = args.guard_maximum_skips,
                                    .window = args.window.as<double>(),
                                    .control = args.control.as<double>()},
                                   stream_.get()));
}

}  // namespace polar::cuda
