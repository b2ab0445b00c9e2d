// The decision about one optimizer step: is it done, and with which clipping. One block; some 2 KB for a
// window of 128 steps. The CPU backend's step_control.cpp does the same.
#include "step_control.h"

#include <cmath>

#include "reduce.cuh"

namespace polar::kernels {

constexpr int kControlThreads = 128;

// The places of control: ControlIndex of ops/ops.h.
enum ControlPlace : int {
  kApply,
  kGradientScale,
  kAppliedSteps,
  kLoss,
  kGradientNorm,
  kConsecutiveSkips,
  kTotalSkips,
};

// Far above what the ring holds: above mean + deviations * max(standard deviation, 1e-3 |mean|). By all
// threads.
__device__ inline bool is_control_spike(double value, const double* ring, int64_t count, double deviations,
                                        double* scratch) {
  double sum = 0.0, squares = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kControlThreads) sum += ring[i];
  const double mean = block_sum<kControlThreads>(sum, scratch) / static_cast<double>(count);
  for (int64_t i = threadIdx.x; i < count; i += kControlThreads)
    squares += (ring[i] - mean) * (ring[i] - mean);
  const double variance = block_sum<kControlThreads>(squares, scratch) / static_cast<double>(count);
  return value > mean + deviations * fmax(sqrt(variance), 1e-3 * fabs(mean));
}

__device__ inline bool is_control_finite(double x) {
  return fabs(x) <= 1.7976931348623157e308;
}

__device__ inline bool is_run_over(const StepControlArguments& args) {
  return args.guard && args.guard_maximum_skips > 0 &&
         args.control[kConsecutiveSkips] >= static_cast<double>(args.guard_maximum_skips);
}

__device__ inline void write_control(const StepControlArguments& args, double loss, double norm, bool skip) {
  double* window = args.window;
  // Without the guard a non-finite step is applied, but one such value would blind the window for good.
  if (!skip && is_control_finite(loss) && is_control_finite(norm)) {
    const int64_t slot = static_cast<int64_t>(window[0]) % args.guard_window;
    window[2 + slot] = loss;
    window[2 + args.guard_window + slot] = norm;
    window[0] += 1.0;
  }
  double* control = args.control;
  const double to_mean = args.gradient_tokens / args.valid_tokens[0];
  const bool clip = args.clip_norm > 0.0 && norm + 1e-6 > args.clip_norm;
  control[kApply] = skip ? 0.0 : 1.0;
  control[kGradientScale] = clip ? to_mean * args.clip_norm / (norm + 1e-6) : to_mean;
  control[kAppliedSteps] += skip ? 0.0 : 1.0;
  control[kLoss] = loss;
  control[kGradientNorm] = norm;
  control[kConsecutiveSkips] = skip ? control[kConsecutiveSkips] + 1.0 : 0.0;
  control[kTotalSkips] += skip ? 1.0 : 0.0;
}

__global__ void __launch_bounds__(kControlThreads) step_control_kernel(StepControlArguments args) {
  DEVICE_SHARED(double, scratch, [kControlThreads / kWarpSize]);
  if (is_run_over(args)) {  // the same for all threads
    __syncthreads();        // all have read control before it changes
    if (threadIdx.x == 0) args.control[kApply] = 0.0;
    return;
  }
  const double tokens = args.valid_tokens[0], loss = args.loss_sum[0] / tokens;
  const double norm = sqrt(args.gradient_squares[0]) * (args.gradient_tokens / tokens);
  const double entered = args.window[0];
  const int64_t filled =
      entered < static_cast<double>(args.guard_window) ? static_cast<int64_t>(entered) : args.guard_window;
  bool skip = args.guard && !(is_control_finite(loss) && is_control_finite(norm));
  if (args.guard && !skip && filled > 0 && filled >= args.guard_minimum) {  // the same for all threads
    const double* losses = args.window + 2;
    skip = is_control_spike(loss, losses, filled, args.guard_deviations, scratch);
    skip |= is_control_spike(norm, losses + args.guard_window, filled, args.guard_deviations, scratch);
  }
  __syncthreads();  // all have read the window before it changes
  if (threadIdx.x == 0) write_control(args, loss, norm, skip);
}

cudaError_t step_control(const StepControlArguments& args, cudaStream_t stream) {
  return device_launch(LaunchConfig(1, kControlThreads, 0, stream), &step_control_kernel, args);
}

}  // namespace polar::kernels
