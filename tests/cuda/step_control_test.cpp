// The decision about a step, against the CPU: the same runs of losses and norms on both, compared after every
// step.
#include <limits>

#include "cuda/orders.h"

namespace polar::cuda::test {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Guards {
 public:
  Guards(Both& both, int64_t window, int64_t minimum, bool on = true, double clip_norm = 0.0)
      : both_(both),
        loss_sum_(both.zeros(DType::f64, {1})),
        squares_(both.zeros(DType::f64, {1})),
        valid_(both.constant(DType::f64, {1}, 1.0)),
        window_(both.zeros(DType::f64, {2 + 2 * window})),
        control_(both.zeros(DType::f64, {kControlSize})) {
    args_.clip_norm = clip_norm;
    args_.guard = on;
    args_.guard_deviations = 3.0;
    args_.guard_window = window;
    args_.guard_minimum = minimum;
  }
  StepControl& args() { return args_; }
  double valid_tokens = 1.0;
  // One step on both; whether it was applied.
  bool step(double loss, double norm) {
    both_.write(valid_, {valid_tokens});
    both_.write(loss_sum_, {valid_tokens * loss});
    both_.write(squares_, {norm * norm});
    run(both_.cpu, [](const Pair& pair) { return pair.cpu; });
    run(both_.cuda, [](const Pair& pair) { return pair.cuda; });
    expect_same(both_.read_cuda(control_), both_.read_cpu(control_), "control");
    expect_same(both_.read_cuda(window_), both_.read_cpu(window_), "window");
    return both_.read_cuda(control_)[kControlApply] == 1.0;
  }
  Values control() { return both_.read_cuda(control_); }

 private:
  template <class Side>
  void run(Ops& ops, Side side) {
    args_.loss_sum = side(loss_sum_);
    args_.gradient_squares = side(squares_);
    args_.valid_tokens = side(valid_);
    args_.window = side(window_);
    args_.control = side(control_);
    ops.step_control(args_);
  }
  // Every formula here is the same few operations in F64; NaN and infinities are where they are.
  static void expect_same(const Values& got, const Values& want, const char* what) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      if (std::isfinite(want[i]))
        ASSERT_NEAR(got[i], want[i], 1e-14 * std::abs(want[i])) << what << "[" << i << "]";
      else
        ASSERT_TRUE(std::isnan(want[i]) ? std::isnan(got[i]) : got[i] == want[i]) << what << "[" << i << "]";
    }
  }
  Both& both_;
  Pair loss_sum_, squares_, valid_, window_, control_;
  StepControl args_;
};

TEST(CudaStepControl, OrdinaryStepsAndClipping) {
  Both both;
  Guards guards(both, 8, 4, true, 1.0);
  guards.valid_tokens = guards.args().gradient_tokens = 4.0;
  EXPECT_TRUE(guards.step(2.0, 0.5));
  EXPECT_EQ(guards.control(), (Values{1, 1, 1, 2.0, 0.5, 0, 0}));
  EXPECT_TRUE(guards.step(2.0, 4.0));
  EXPECT_DOUBLE_EQ(guards.control()[kControlGradientScale], 1.0 / (4.0 + 1e-6));
}

TEST(CudaStepControl, NonFiniteIsSkipped) {
  Both both;
  for (const double bad : {kNaN, kInfinity, -kInfinity}) {
    Guards guards(both, 8, 4);
    EXPECT_FALSE(guards.step(bad, 1.0));
    EXPECT_FALSE(guards.step(1.0, std::abs(bad)));
    EXPECT_EQ(guards.control()[kControlConsecutiveSkips], 2);
    EXPECT_TRUE(guards.step(1.0, 1.0));
    EXPECT_EQ(guards.control()[kControlTotalSkips], 2);
  }
}

TEST(CudaStepControl, SpikesOfLossAndNorm) {
  Both both;
  Guards guards(both, 8, 4);
  for (const double loss : {1.0, 1.2, 0.8, 1.0, 1.0, 1.2, 0.8, 1.0}) EXPECT_TRUE(guards.step(loss, 2.0));
  // mean 1, deviation sqrt(0.16 / 8) = 0.1414: the limit is 1.4243. Norms: all 2, the limit is 2.006.
  EXPECT_FALSE(guards.step(1.43, 2.0));
  EXPECT_TRUE(guards.step(1.42, 2.0));
  EXPECT_FALSE(guards.step(1.0, 2.0061));
  EXPECT_TRUE(guards.step(1.0, 2.0059));
}

TEST(CudaStepControl, ManyStepsThroughTheRing) {
  Both both;
  Guards guards(both, 300, 20);  // a window larger than the block
  for (uint64_t i = 0; i < 700; ++i)
    guards.step(3.0 + 0.2 * random_normal(1, 1, i) + (i % 97 == 96 ? 4.0 : 0.0),
                1.0 + std::abs(random_normal(1, 2, i)));
  EXPECT_GE(guards.control()[kControlTotalSkips], 7);
}

TEST(CudaStepControl, WithoutTheGuardEveryStepIsApplied) {
  Both both;
  Guards guards(both, 8, 4, false);
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(guards.step(1.0, 1.0));
  EXPECT_TRUE(guards.step(1e6, 1e6));
  EXPECT_TRUE(guards.step(kNaN, 1.0));
  EXPECT_TRUE(guards.step(1.0, 1.0));
}

TEST(CudaStepControl, NormAndScaleAreThoseOfTheMean) {
  Both both;
  Guards guards(both, 8, 4, true, 3.0);
  guards.args().gradient_tokens = 5.0;
  guards.valid_tokens = 2.0;
  for (const double norm : {0.5, 1.0, 1.2, 1.3}) EXPECT_TRUE(guards.step(2.0, norm));
  EXPECT_DOUBLE_EQ(guards.control()[kControlGradientNorm], 3.25);
  EXPECT_DOUBLE_EQ(guards.control()[kControlGradientScale], 2.5 * 3.0 / (3.25 + 1e-6));
}

TEST(CudaStepControl, AfterTheLastSkipNothingChanges) {
  Both both;
  Guards guards(both, 8, 4);
  guards.args().guard_maximum_skips = 2;
  EXPECT_FALSE(guards.step(kNaN, 1.0));
  EXPECT_FALSE(guards.step(kNaN, 1.0));
  EXPECT_FALSE(guards.step(1.0, 1.0));
  EXPECT_EQ(guards.control()[kControlConsecutiveSkips], 2);
  EXPECT_EQ(guards.control()[kControlTotalSkips], 2);
}

TEST(CudaStepControl, TheSameInEveryOrder) {
  Both both;
  expect_same_bits_in_every_order("control and window", [&] {
    Guards guards(both, 200, 4);
    for (uint64_t i = 0; i < 30; ++i) guards.step(3.0 + random_normal(1, 3, i), 1.0);
    return guards.control();
  });
}

}  // namespace
}  // namespace polar::cuda::test
