// Schedules: exact ends, the formulas in between.
#include "optim/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace polar {
namespace {

ScheduleConfig schedule(ScheduleKind kind, int64_t warmup, double final, double decay_fraction = 0.4) {
  return {.kind = kind, .warmup_steps = warmup, .decay_fraction = decay_fraction, .final = final};
}

const ScheduleKind kDecaying[] = {ScheduleKind::linear, ScheduleKind::cosine, ScheduleKind::wsd,
                                  ScheduleKind::wsd_linear};

TEST(Schedule, EndsAreExact) {
  for (const ScheduleKind kind : kDecaying)
    for (const double final : {0.0, 0.1, 1.0 / 3.0, 0.7, 1.0})
      for (const int64_t warmup : {0, 1, 7, 98})
        for (const int64_t steps : {100, 101, 12345}) {
          const ScheduleConfig s = schedule(kind, warmup, final);
          EXPECT_EQ(learning_rate_factor(s, steps - 1, steps), final);
          EXPECT_EQ(learning_rate_factor(s, steps, steps), final);
          EXPECT_EQ(learning_rate_factor(s, std::max<int64_t>(warmup - 1, 0), steps), 1.0);
        }
}

TEST(Schedule, WarmUpLosesNoStep) {
  for (const ScheduleKind kind :
       {ScheduleKind::constant, ScheduleKind::linear, ScheduleKind::cosine, ScheduleKind::wsd})
    for (int64_t step = 0; step < 10; ++step)
      EXPECT_EQ(learning_rate_factor(schedule(kind, 10, 0.0), step, 100),
                static_cast<double>(step + 1) / 10.0);
}

TEST(Schedule, ConstantStaysAtOne) {
  for (const int64_t step : {10, 50, 99, 1000})
    EXPECT_EQ(learning_rate_factor(schedule(ScheduleKind::constant, 10, 0.5), step, 100), 1.0);
}

TEST(Schedule, FormulasInBetween) {
  // 101 steps without warm-up: step k has p = k / 100.
  EXPECT_NEAR(learning_rate_factor(schedule(ScheduleKind::linear, 0, 0.2), 25, 101), 1.0 - 0.8 * 0.25, 1e-15);
  EXPECT_NEAR(learning_rate_factor(schedule(ScheduleKind::cosine, 0, 0.2), 25, 101),
              0.2 + 0.8 * 0.5 * (1.0 + std::cos(std::numbers::pi / 4)), 1e-15);
  // wsd over the last 40 of 100 steps: step 59 is the last at the full rate, step 69 has p = 10/40.
  const ScheduleConfig wsd = schedule(ScheduleKind::wsd, 5, 0.0);
  EXPECT_EQ(learning_rate_factor(wsd, 59, 100), 1.0);
  EXPECT_LT(learning_rate_factor(wsd, 60, 100), 1.0);
  EXPECT_NEAR(learning_rate_factor(wsd, 69, 100), 0.5, 1e-15);
  const ScheduleConfig straight = schedule(ScheduleKind::wsd_linear, 5, 0.2);
  EXPECT_EQ(learning_rate_factor(straight, 59, 100), 1.0);
  EXPECT_NEAR(learning_rate_factor(straight, 69, 100), 0.8, 1e-15);
  EXPECT_NEAR(learning_rate_factor(straight, 89, 100), 0.4, 1e-15);
  // The decay never eats the warm-up.
  EXPECT_EQ(learning_rate_factor(schedule(ScheduleKind::wsd, 50, 0.0, 1.0), 24, 100), 0.5);
}

TEST(Schedule, FallsSteadily) {
  for (const ScheduleKind kind : kDecaying)
    for (int64_t step = 20; step < 100; ++step)
      EXPECT_LE(learning_rate_factor(schedule(kind, 20, 0.1), step, 100),
                learning_rate_factor(schedule(kind, 20, 0.1), step - 1, 100));
}

}  // namespace
}  // namespace polar
