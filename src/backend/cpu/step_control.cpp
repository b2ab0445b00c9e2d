// The decision about one optimizer step: is it done, and with which clipping.
#include <algorithm>
#include <cmath>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"

namespace polar::cpu {
namespace {

// The values that the last steps had, as rings: slot (values ever entered) % size is the next to be written.
struct Window {
  double* count;
  double* losses;
  double* norms;
  int64_t size;
  explicit Window(const StepControl& args)
      : count(args.window.as<double>()),
        losses(count + 2),
        norms(losses + args.guard_window),
        size(args.guard_window) {}
  int64_t filled() const { return std::min(static_cast<int64_t>(*count), size); }
  void enter(double loss, double norm) const {
    const int64_t slot = static_cast<int64_t>(*count) % size;
    losses[slot] = loss;
    norms[slot] = norm;
    *count += 1.0;
  }
};

// Far above what the ring holds. The floor of 1e-3 |mean| keeps a window of nearly equal values from calling
// every small change a spike.
bool is_spike(double value, const double* ring, int64_t count, double deviations) {
  double mean = 0.0, variance = 0.0;
  for (int64_t i = 0; i < count; ++i) mean += ring[i];
  mean /= static_cast<double>(count);
  for (int64_t i = 0; i < count; ++i) variance += (ring[i] - mean) * (ring[i] - mean);
  const double deviation = std::sqrt(variance / static_cast<double>(count));
  return value > mean + deviations * std::max(deviation, 1e-3 * std::abs(mean));
}

bool must_skip(const StepControl& args, const Window& window, double loss, double norm) {
  if (!args.guard) return false;
  if (!std::isfinite(loss) || !std::isfinite(norm)) return true;
  const int64_t filled = window.filled();
  if (filled == 0 || filled < args.guard_minimum) return false;
  return is_spike(loss, window.losses, filled, args.guard_deviations) ||
         is_spike(norm, window.norms, filled, args.guard_deviations);
}

bool is_over(const StepControl& args, const double* control) {
  return args.guard && args.guard_maximum_skips > 0 &&
         control[kControlConsecutiveSkips] >= static_cast<double>(args.guard_maximum_skips);
}

bool is_f64(const Tensor& x, int64_t count) {
  return x.dtype == DType::f64 && x.count() == count;
}

}  // namespace

void step_control(const StepControl& args) {
  require(is_f64(args.loss_sum, 1) && is_f64(args.gradient_squares, 1) && is_f64(args.control, kControlSize),
          "step_control: loss_sum and gradient_squares F64 (1), control F64 (kControlSize)");
  require(is_f64(args.valid_tokens, 1), "step_control: valid_tokens F64 (1)");
  require(args.guard_window > 0 && is_f64(args.window, 2 + 2 * args.guard_window),
          "step_control: window F64 (2 + 2 * guard_window)");
  const Window window(args);
  double* control = args.control.as<double>();
  if (is_over(args, control)) {
    control[kControlApply] = 0.0;
    return;
  }
  const double tokens = *args.valid_tokens.as<double>(), to_mean = args.gradient_tokens / tokens;
  const double loss = *args.loss_sum.as<double>() / tokens;
  const double norm = std::sqrt(*args.gradient_squares.as<double>()) * to_mean;
  const bool skip = must_skip(args, window, loss, norm);
  // Without the guard a non-finite step is applied, but one such value would blind the window for good.
  if (!skip && std::isfinite(loss) && std::isfinite(norm)) window.enter(loss, norm);

  const bool clip = args.clip_norm > 0.0 && norm + 1e-6 > args.clip_norm;
  control[kControlApply] = skip ? 0.0 : 1.0;
  control[kControlGradientScale] = clip ? to_mean * args.clip_norm / (norm + 1e-6) : to_mean;
  control[kControlAppliedSteps] += skip ? 0.0 : 1.0;
  control[kControlLoss] = loss;
  control[kControlGradientNorm] = norm;
  control[kControlConsecutiveSkips] = skip ? control[kControlConsecutiveSkips] + 1.0 : 0.0;
  control[kControlTotalSkips] += skip ? 1.0 : 0.0;
}

}  // namespace polar::cpu
