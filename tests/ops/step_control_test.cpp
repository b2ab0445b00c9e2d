// The decision about a step: non-finite values, spikes, clipping, the ring of the window.
#include <limits>

#include "device.h"

namespace polar::testing {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A run's step control with a small window: 8 values, spikes judged from 4 on.
class Guard {
 public:
  explicit Guard(bool on = true, double clip_norm = 0.0) {
    args_.loss_sum = device_.zeros(DType::f64, {1});
    args_.gradient_squares = device_.zeros(DType::f64, {1});
    args_.valid_tokens = device_.make(DType::f64, {1}, {4.0});
    args_.gradient_tokens = 4.0;
    args_.clip_norm = clip_norm;
    args_.guard = on;
    args_.guard_deviations = 3.0;
    args_.guard_window = 8;
    args_.guard_minimum = 4;
    args_.window = device_.zeros(DType::f64, {2 + 2 * args_.guard_window});
    args_.control = device_.zeros(DType::f64, {kControlSize});
  }
  // One step with this mean loss and gradient norm; the control after it.
  Values step(double loss, double norm) {
    device_.write(args_.loss_sum, {4.0 * loss});
    device_.write(args_.gradient_squares, {norm * norm});
    device_->step_control(args_);
    return device_.read(args_.control);
  }
  void set_valid_tokens(double count) { device_.write(args_.valid_tokens, {count}); }
  Values window() const { return device_.read(args_.window); }
  StepControl& args() { return args_; }

 private:
  Device device_;
  StepControl args_;
};

TEST(StepControl, AnOrdinaryStep) {
  Guard guard;
  const Values control = guard.step(2.0, 3.0);
  EXPECT_EQ(control, (Values{1, 1, 1, 2.0, 3.0, 0, 0}));
  EXPECT_EQ(guard.window()[0], 1);
  EXPECT_EQ(guard.window()[2], 2.0);
  EXPECT_EQ(guard.window()[2 + 8], 3.0);
}

TEST(StepControl, ClippingAsInTorch) {
  Guard guard(true, 1.0);
  EXPECT_EQ(guard.step(2.0, 0.5)[kControlGradientScale], 1.0);
  EXPECT_DOUBLE_EQ(guard.step(2.0, 4.0)[kControlGradientScale], 1.0 / (4.0 + 1e-6));
  EXPECT_DOUBLE_EQ(guard.step(2.0, 1.0)[kControlGradientScale], 1.0 / (1.0 + 1e-6));
  EXPECT_EQ(guard.step(2.0, 4.0)[kControlGradientNorm], 4.0);
}

TEST(StepControl, NonFiniteIsSkippedFromTheFirstStepOn) {
  for (double bad : {kNaN, kInfinity, -kInfinity}) {
    Guard guard;
    const Values window = guard.window();
    EXPECT_EQ(guard.step(bad, 1.0)[kControlApply], 0);
    const Values control = guard.step(1.0, std::abs(bad));
    EXPECT_EQ(control[kControlApply], 0);
    EXPECT_EQ(control[kControlAppliedSteps], 0);
    EXPECT_EQ(control[kControlConsecutiveSkips], 2);
    EXPECT_EQ(control[kControlTotalSkips], 2);
    EXPECT_EQ(guard.window(), window);
    const Values after = guard.step(1.0, 1.0);
    EXPECT_EQ(after, (Values{1, 1, 1, 1.0, 1.0, 0, 2}));
  }
}

TEST(StepControl, SpikesAreSkippedOnceTheWindowHoldsEnough) {
  Guard guard;
  for (double loss : {1.0, 1.2, 0.8}) EXPECT_EQ(guard.step(loss, 1.0)[kControlApply], 1);
  EXPECT_EQ(guard.step(100.0, 1.0)[kControlApply], 1);  // three values are not a window yet
  for (double loss : {1.0, 1.2, 0.8, 1.0, 1.0, 1.2, 0.8, 1.0}) guard.step(loss, 1.0);  // pushes the 100 out
  // mean 1, deviation sqrt(0.16 / 8) = 0.1414: the limit is 1.4243.
  const Values before = guard.window();
  EXPECT_EQ(guard.step(1.43, 1.0)[kControlApply], 0);
  EXPECT_EQ(guard.window(), before);
  EXPECT_EQ(guard.step(1.42, 1.0)[kControlApply], 1);
}

TEST(StepControl, AGradientNormMaySpikeToo) {
  Guard guard;
  for (int i = 0; i < 8; ++i) guard.step(1.0, 2.0);
  // All equal: the deviation is taken as 1e-3 of the mean, so the limit is 2.006.
  EXPECT_EQ(guard.step(1.0, 2.0061)[kControlApply], 0);
  EXPECT_EQ(guard.step(1.0, 2.0059)[kControlApply], 1);
  EXPECT_EQ(guard.step(1.0, 0.001)[kControlApply], 1);  // small is never a spike
}

TEST(StepControl, TheRingHoldsTheLastValues) {
  Guard guard;
  guard.args().guard_deviations = 1e9;
  for (int i = 0; i < 19; ++i) guard.step(i, 100 + i);
  const Values window = guard.window();
  EXPECT_EQ(window[0], 19);
  for (int i = 11; i < 19; ++i) {
    EXPECT_EQ(window[static_cast<size_t>(2 + i % 8)], i);
    EXPECT_EQ(window[static_cast<size_t>(10 + i % 8)], 100 + i);
  }
}

TEST(StepControl, WithoutTheGuardEveryStepIsApplied) {
  Guard guard(false);
  for (int i = 0; i < 8; ++i) guard.step(1.0, 1.0);
  EXPECT_EQ(guard.step(1e6, 1e6)[kControlApply], 1);
  EXPECT_EQ(guard.step(kNaN, 1.0)[kControlApply], 1);
  EXPECT_EQ(guard.step(1.0, 1.0)[kControlTotalSkips], 0);
  for (double value : guard.window()) EXPECT_TRUE(std::isfinite(value));
}

TEST(StepControl, NoValidTokensIsNotALoss) {
  Guard guard;
  guard.set_valid_tokens(0.0);
  EXPECT_EQ(guard.step(0.0, 1.0)[kControlApply], 0);
}

// Gradients summed over 4 tokens' share each, of which 2 counted: the mean's are twice as large.
TEST(StepControl, NormAndScaleAreThoseOfTheMean) {
  Guard guard(true, 3.0);
  guard.set_valid_tokens(2.0);
  const Values free = guard.step(2.0, 1.0);
  EXPECT_EQ(free[kControlLoss], 4.0);
  EXPECT_EQ(free[kControlGradientNorm], 2.0);
  EXPECT_EQ(free[kControlGradientScale], 2.0);
  EXPECT_DOUBLE_EQ(guard.step(2.0, 3.0)[kControlGradientScale], 2.0 * 3.0 / (6.0 + 1e-6));
}

// Steps that were queued before anybody knew that the run is over.
TEST(StepControl, AfterTheLastSkipNothingChanges) {
  Guard guard;
  guard.args().guard_maximum_skips = 2;
  guard.step(kNaN, 1.0);
  const Values last = guard.step(kNaN, 1.0), window = guard.window();
  EXPECT_EQ(last[kControlConsecutiveSkips], 2);
  const Values after = guard.step(1.0, 1.0);
  EXPECT_EQ(after[kControlApply], 0);
  EXPECT_TRUE(std::isnan(after[kControlLoss]));
  for (size_t i = kControlGradientNorm; i < after.size(); ++i) EXPECT_EQ(after[i], last[i]) << i;
  EXPECT_EQ(guard.window(), window);
}

}  // namespace
}  // namespace polar::testing
