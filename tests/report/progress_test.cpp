// The progress line: fields, units, widths; the time left.
#include "report/progress.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace polar::test {
namespace {

Progress example() {
  Progress progress;
  progress.step = 120;
  progress.max_steps = 300;
  progress.loss = 3.2141;
  progress.val_loss = 3.3;
  progress.lr = 2e-4;
  progress.grad_norm = 0.81;
  progress.tokens_per_s = 12345;
  progress.seconds_left = 92;
  progress.memory_bytes = 432013312;
  return progress;
}

TEST(ProgressLine, AllFields) {
  const std::string line =
      "step 120/300  40%  loss 3.214  val 3.300  lr 2.0e-04  norm 0.81  12.3k tok/s  ETA 1:32  mem 412 MiB";
  EXPECT_EQ(plain_progress_line(example()), line);
  EXPECT_EQ(progress_line(example(), 200), line);
  EXPECT_EQ(progress_line(example(), static_cast<int>(line.size())), line);
}

TEST(ProgressLine, MfuWhereItIsKnown) {
  Progress progress = example();
  progress.mfu = 0.4123;
  EXPECT_NE(plain_progress_line(progress).find("12.3k tok/s  mfu 41.2%  ETA"), std::string::npos);
}

TEST(ProgressLine, NeverWiderThanTheTerminal) {
  for (int width = 0; width <= 120; ++width)
    EXPECT_LE(progress_line(example(), width).size(), static_cast<size_t>(width));
}

TEST(ProgressLine, LeavesOutTheLeastImportantFieldsFirst) {
  EXPECT_EQ(progress_line(example(), 80),
            "step 120/300  40%  loss 3.214  val 3.300  norm 0.81  12.3k tok/s  ETA 1:32");
  EXPECT_EQ(progress_line(example(), 40), "step 120/300  loss 3.214  val 3.300");
  EXPECT_EQ(progress_line(example(), 6), "step 1");
}

TEST(ProgressLine, AbsentValuesAndColumnsThatDoNotMove) {
  Progress progress;
  progress.step = 7;
  progress.max_steps = 1000;
  progress.lr = 1e-3;
  EXPECT_EQ(plain_progress_line(progress), "step    7/1000  0%  lr 1.0e-03      0 tok/s");
  progress.loss = std::numeric_limits<double>::quiet_NaN();
  progress.grad_norm = 12345.0;
  EXPECT_EQ(plain_progress_line(progress),
            "step    7/1000  0%  loss nan  lr 1.0e-03  norm 1.2e+04      0 tok/s");
}

TEST(Human, Counts) {
  EXPECT_EQ(human_count(0), "0");
  EXPECT_EQ(human_count(987), "987");
  EXPECT_EQ(human_count(9.876), "9.88");
  EXPECT_EQ(human_count(999.6), "1.00k");
  EXPECT_EQ(human_count(12345), "12.3k");
  EXPECT_EQ(human_count(999949), "1.00M");
  EXPECT_EQ(human_count(4.56e6), "4.56M");
  EXPECT_EQ(human_count(1.2e9), "1.20G");
  EXPECT_EQ(human_count(3e15), "3000T");
  EXPECT_EQ(human_count(-1500), "-1.50k");
  EXPECT_EQ(human_count(std::numeric_limits<double>::infinity()), "inf");
}

TEST(Human, Bytes) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1024), "1.00 KiB");
  EXPECT_EQ(human_bytes(432013312), "412 MiB");
  EXPECT_EQ(human_bytes(int64_t{3} << 29), "1.50 GiB");
}

TEST(Human, Durations) {
  EXPECT_EQ(human_duration(0), "0:00");
  EXPECT_EQ(human_duration(6.6), "0:07");
  EXPECT_EQ(human_duration(92), "1:32");
  EXPECT_EQ(human_duration(59.7), "1:00");
  EXPECT_EQ(human_duration(7384), "2:03:04");
  EXPECT_EQ(human_duration(3 * 86400 + 4 * 3600 + 5 * 60), "3d 04:05");
  EXPECT_EQ(human_duration(std::numeric_limits<double>::infinity()), "-");
}

TEST(StepRateTest, FollowsTheRate) {
  StepRate rate(10.0);
  EXPECT_FALSE(rate.seconds_for(10).has_value());
  rate.add(5, 0.0);
  EXPECT_FALSE(rate.seconds_for(10).has_value());
  rate.add(4, 2.0);
  EXPECT_NEAR(rate.steps_per_s().value(), 2.0, 1e-12);
  EXPECT_NEAR(rate.seconds_for(100).value(), 50.0, 1e-9);
  for (int i = 0; i < 100; ++i) rate.add(8, 1.0);
  EXPECT_NEAR(rate.steps_per_s().value(), 8.0, 0.01);
  // One slow step is smoothed: the weighted mean of 8/s over about ten seconds and of 1 step in 2 s.
  rate.add(1, 2.0);
  EXPECT_GT(rate.steps_per_s().value(), 5.0);
  EXPECT_LT(rate.steps_per_s().value(), 8.0);
}

}  // namespace
}  // namespace polar::test
