// Learning-rate schedules: the share of a group's lr that one step uses, a pure function of the step.
#pragma once

#include <cstdint>

#include "optim/config.h"

namespace polar {

// The factor on lr for `step` = 0 .. max_steps - 1; w = warmup_steps, last = max_steps - 1.
//   warm-up   (step + 1) / w for step < w: the first step is not lost, step w - 1 runs at the full rate
//   constant  1
//   linear    final + (1 - final) (1 - p)                 p = (step - start) / (last - start),
//   cosine    final + (1 - final) (1 + cos(pi p)) / 2     start = max(w - 1, 0)
//   wsd       1, then final + (1 - final) (1 - sqrt(p)) over the last round(decay_fraction * max_steps) steps
//             (at least one, never into the warm-up)      p = (step - start) / (last - start)
//   wsd_linear  the same with 1 - p instead of 1 - sqrt(p)
// The decaying kinds have exactly `final` at step `last` and from there on (a one-step run included).
double learning_rate_factor(const ScheduleConfig& schedule, int64_t step, int64_t max_steps);

}  // namespace polar
