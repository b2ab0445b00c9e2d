#include "optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace polar {
namespace {

// The first step of the decay: the last one at the full rate.
int64_t decay_start(const ScheduleConfig& schedule, int64_t last) {
  const int64_t after_warmup = std::max<int64_t>(schedule.warmup_steps - 1, 0);
  if (schedule.kind != ScheduleKind::wsd && schedule.kind != ScheduleKind::wsd_linear) return after_warmup;
  const auto decay_steps = std::llround(schedule.decay_fraction * static_cast<double>(last + 1));
  return std::max(after_warmup, last - std::max<int64_t>(decay_steps, 1));
}

// What is left of the way from 1 to `final` when the share p of the decay has passed: 1 at p = 0, 0 at p = 1.
double remaining(ScheduleKind kind, double p) {
  switch (kind) {
    case ScheduleKind::linear:
    case ScheduleKind::wsd_linear:
      return 1.0 - p;
    case ScheduleKind::cosine:
      return 0.5 * (1.0 + std::cos(std::numbers::pi * p));
    case ScheduleKind::wsd:
      return 1.0 - std::sqrt(p);
    case ScheduleKind::constant:
      break;
  }
  return 1.0;
}

}  // namespace

double learning_rate_factor(const ScheduleConfig& schedule, int64_t step, int64_t max_steps) {
  const int64_t last = max_steps - 1;
  const bool decays = schedule.kind != ScheduleKind::constant;
  if (decays && step >= last) return schedule.final;
  if (step < schedule.warmup_steps)
    return static_cast<double>(step + 1) / static_cast<double>(schedule.warmup_steps);
  const int64_t start = decay_start(schedule, last);
  if (!decays || step <= start) return 1.0;
  const double r =
      remaining(schedule.kind, static_cast<double>(step - start) / static_cast<double>(last - start));
  return r + schedule.final * (1.0 - r);
}

}  // namespace polar
