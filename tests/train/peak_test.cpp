// What MFU is a share of.
#include "train/peak.h"

#include <gtest/gtest.h>

namespace polar {
namespace {

TEST(TrainingPeak, OfTheCpuIsNotAskedFor) {
  const auto ops = make_ops({.device = "cpu", .threads = 1});
  EXPECT_EQ(training_peak(*ops, DType::f32).flops, 0.0);
}

TEST(TrainingPeak, CanBeMeasuredAnywhere) {
  const auto ops = make_ops({.device = "cpu", .threads = 1});
  const PeakRate peak = measured_peak(*ops, DType::f32, 64);
  EXPECT_GT(peak.flops, 1e6);
  EXPECT_LT(peak.flops, 1e15);
  EXPECT_EQ(peak.source, "measured: a product of 64 x 64");
}

}  // namespace
}  // namespace polar
