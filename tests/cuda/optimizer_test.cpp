// Optimizer updates against the CPU, and what the CPU does not have: bf16 copies, stochastic rounding.
#include "cuda/orders.h"

namespace polar::cuda::test {
namespace {

const int64_t kCounts[] = {1, 3, 4, 1023, 5001};

Values control(double apply, double gradient_scale, double applied_steps) {
  return {apply, gradient_scale, applied_steps, 0, 0, 0, 0};
}

// The arrays of an AdamW update, of which element `begin` on are updated.
struct AdamWArrays {
  Pair parameter, gradient, m, v, lr, control, weight;
  AdamWArrays(Both& both, int64_t count, const Values& control_values)
      : parameter(both.random(DType::f32, {count}, 1)),
        gradient(both.random(DType::f32, {count}, 2)),
        m(both.random(DType::f32, {count}, 3, 0.1)),
        v(both.constant(DType::f32, {count}, 0.01)),
        lr(both.constant(DType::f64, {1}, 0.01)),
        control(both.make(DType::f64, {kControlSize}, control_values)),
        weight(both.zeros(DType::bf16, {count})) {}
  template <class Side>
  AdamW args(int64_t begin, Side side) const {
    const Shape part{parameter.cpu.count() - begin};
    return {.parameter = side(parameter).slice(begin, part),
            .gradient = side(gradient).slice(begin, part),
            .m = side(m).slice(begin, part),
            .v = side(v).slice(begin, part),
            .lr = side(lr),
            .beta1 = 0.9,
            .beta2 = 0.95,
            .eps = 1e-8,
            .weight_decay = 0.1,
            .control = side(control)};
  }
};
Tensor cpu_side(const Pair& pair) {
  return pair.cpu;
}
Tensor cuda_side(const Pair& pair) {
  return pair.cuda;
}

TEST(CudaAdamW, IsTheCpus) {
  Both both;
  for (const int64_t count : kCounts)
    for (const int64_t begin : {0, 1}) {
      const AdamWArrays a(both, count + begin, control(1, 0.5, 3));
      both.cpu.adamw(a.args(begin, cpu_side));
      both.cuda.adamw(a.args(begin, cuda_side));
      expect_close(both.read_cuda(a.parameter), both.read_cpu(a.parameter), 1e-6, "parameter");
      expect_close(both.read_cuda(a.m), both.read_cpu(a.m), 1e-6, "m");
      expect_close(both.read_cuda(a.v), both.read_cpu(a.v), 1e-6, "v");
    }
}

TEST(CudaAdamW, ASkippedStepChangesNothing) {
  Both both;
  const AdamWArrays a(both, 100, control(0, 1, 3));
  AdamW args = a.args(0, cuda_side);
  args.weight = a.weight.cuda;
  both.cuda.adamw(args);
  for (const Pair& pair : {a.parameter, a.m, a.v, a.weight})
    EXPECT_EQ(both.read_cuda(pair), both.read_cpu(pair));
}

TEST(CudaAdamW, TheWeightIsTheRoundedParameter) {
  Both both;
  for (const int64_t begin : {0, 1}) {
    const AdamWArrays a(both, 1000 + begin, control(1, 1, 1));
    AdamW args = a.args(begin, cuda_side);
    args.weight = a.weight.cuda.slice(begin, {1000});
    both.cuda.adamw(args);
    Values want = both.read_cuda(a.parameter);
    for (double& value : want) value = rounded_to(DType::bf16, value);
    if (begin == 1) want[0] = 0.0;
    EXPECT_EQ(both.read_cuda(a.weight), want);
  }
}

// A zero gradient and zero decay leave the parameter; only the rounding of the copy moves.
Values stochastic_weights(Both& both, int64_t count, double value, uint64_t seed, double applied_steps) {
  AdamWArrays a(both, count, control(1, 1, applied_steps));
  both.write(a.parameter, Values(static_cast<size_t>(count), value));
  for (const Pair& pair : {a.gradient, a.m}) both.write(pair, Values(static_cast<size_t>(count), 0.0));
  AdamW args = a.args(0, cuda_side);
  args.weight_decay = 0.0;
  args.weight = a.weight.cuda;
  args.rounding_seed = seed;
  both.cuda.adamw(args);
  return both.read_cuda(a.weight);
}

// Values a quarter of the way between two bf16: both neighbours, in proportion, so that the mean is kept. The
// share of n independent roundings deviates from 1/4 by more than 5 sqrt(3/16 / n) once in two million times.
TEST(CudaAdamW, StochasticRoundingKeepsTheMean) {
  Both both;
  constexpr int64_t kCount = 20000;
  for (const double sign : {1.0, -1.0}) {
    const Values got = stochastic_weights(both, kCount, sign * (1.0 + 0.25 * 0x1p-7), 7, 1);
    int64_t away = 0;
    for (const double value : got) {
      ASSERT_TRUE(value == sign || value == sign * (1.0 + 0x1p-7)) << value;
      away += value != sign;
    }
    const double share = static_cast<double>(away) / kCount;
    EXPECT_NEAR(share, 0.25, 5.0 * std::sqrt(0.25 * 0.75 / kCount));
  }
}

TEST(CudaAdamW, StochasticRoundingFollowsSeedAndStepAlone) {
  Both both;
  const double value = 1.0 + 0.5 * 0x1p-7;
  const Values first = stochastic_weights(both, 1001, value, 7, 1);
  EXPECT_EQ(stochastic_weights(both, 1001, value, 7, 1), first);
  EXPECT_NE(stochastic_weights(both, 1001, value, 8, 1), first);
  EXPECT_NE(stochastic_weights(both, 1001, value, 7, 2), first);
}

TEST(CudaAdamW, StochasticRoundingLeavesWhatBf16Holds) {
  Both both;
  for (const double value :
       {0.0, 1.5, -0x1p-100, static_cast<double>(INFINITY), -static_cast<double>(INFINITY)})
    EXPECT_EQ(stochastic_weights(both, 64, value, 9, 1), Values(64, value));
  for (const double value : stochastic_weights(both, 64, std::nan(""), 9, 1)) EXPECT_TRUE(std::isnan(value));
}

TEST(CudaMomentum, IsTheCpus) {
  Both both;
  for (const int64_t count : kCounts)
    for (const bool nesterov : {false, true})
      for (const bool with_out : {false, true}) {
        const Pair gradient = both.random(DType::f32, {count}, 1),
                   buffer = both.random(DType::f32, {count}, 2);
        const Pair out = both.zeros(DType::f32, {count});
        const Pair ctl = both.make(DType::f64, {kControlSize}, control(1, 0.3, 5));
        const auto args = [&](auto side) {
          return MomentumUpdate{.gradient = side(gradient),
                                .buffer = side(buffer),
                                .out = with_out ? side(out) : Tensor{},
                                .beta = 0.9,
                                .gain = 0.1,
                                .nesterov = nesterov,
                                .control = side(ctl)};
        };
        both.cpu.momentum_update(args(cpu_side));
        both.cuda.momentum_update(args(cuda_side));
        expect_close(both.read_cuda(buffer), both.read_cpu(buffer), 1e-6, "buffer");
        expect_close(both.read_cuda(out), both.read_cpu(out), 1e-6, "out");
      }
}

// One rounding where a bf16 is written; where it is read both sides start from the rounded values.
TEST(CudaMomentum, AnyOfItsArraysMayBeBf16) {
  Both both;
  for (int mask = 0; mask < 8; ++mask) {
    const auto dtype = [&](int bit) { return (mask >> bit & 1) != 0 ? DType::bf16 : DType::f32; };
    const Pair gradient = both.random(dtype(0), {77}, 1), buffer = both.random(dtype(1), {77}, 2);
    const Pair out = both.zeros(dtype(2), {77}),
               ctl = both.make(DType::f64, {kControlSize}, control(1, 1, 5));
    const auto args = [&](auto side) {
      return MomentumUpdate{.gradient = side(gradient),
                            .buffer = side(buffer),
                            .out = side(out),
                            .beta = 0.9,
                            .gain = 0.1,
                            .nesterov = false,
                            .control = side(ctl)};
    };
    both.cpu.momentum_update(args(cpu_side));
    both.cuda.momentum_update(args(cuda_side));
    expect_result(dtype(1), both.read_cuda(buffer), both.read_cpu(buffer), "buffer");
    expect_result(dtype(2), both.read_cuda(out), both.read_cpu(out), "out");
  }
}

TEST(CudaMomentum, WithoutMemoryTheBufferIsNotRead) {
  Both both;
  const Pair gradient = both.random(DType::f32, {9}, 1),
             buffer = both.constant(DType::bf16, {9}, std::nan(""));
  const Pair ctl = both.make(DType::f64, {kControlSize}, control(1, 1, 1));
  both.cuda.momentum_update({.gradient = gradient.cuda,
                             .buffer = buffer.cuda,
                             .out = {},
                             .beta = 0.0,
                             .gain = 1.0,
                             .control = ctl.cuda});
  expect_result(DType::bf16, both.read_cuda(buffer), both.read_cpu(gradient), "buffer");
}

TEST(CudaMomentum, ASkippedStepChangesNothing) {
  Both both;
  const Pair gradient = both.random(DType::f32, {9}, 1), buffer = both.random(DType::f32, {9}, 2);
  const Pair out = both.random(DType::f32, {9}, 3),
             ctl = both.make(DType::f64, {kControlSize}, control(0, 1, 1));
  both.cuda.momentum_update(
      {.gradient = gradient.cuda, .buffer = buffer.cuda, .out = out.cuda, .control = ctl.cuda});
  EXPECT_EQ(both.read_cuda(buffer), both.read_cpu(buffer));
  EXPECT_EQ(both.read_cuda(out), both.read_cpu(out));
}

TEST(CudaMatrixUpdate, IsTheCpus) {
  Both both;
  for (const int64_t count : kCounts)
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const double exponent : {0.0, 0.5, 1.0}) {
        const Pair parameter = both.random(DType::f32, {count}, 1),
                   direction = both.random(dtype, {count}, 2);
        const Pair weight = both.zeros(DType::bf16, {count}), scale = both.make(DType::f64, {1}, {-3.7});
        const Pair ctl = both.make(DType::f64, {kControlSize}, control(1, 1, 2));
        const Pair lr = both.constant(DType::f64, {1}, 0.02);
        const auto args = [&](auto side) {
          return MatrixUpdate{.parameter = side(parameter),
                              .direction = side(direction),
                              .scale = exponent == 0.0 ? Tensor{} : side(scale),
                              .exponent = exponent,
                              .lr = side(lr),
                              .multiplier = 1.5,
                              .weight_decay = 0.1,
                              .control = side(ctl)};
        };
        both.cpu.matrix_update(args(cpu_side));
        MatrixUpdate on_cuda = args(cuda_side);
        on_cuda.weight = weight.cuda;
        both.cuda.matrix_update(on_cuda);
        expect_close(both.read_cuda(parameter), both.read_cpu(parameter), 1e-6, "parameter");
        Values want = both.read_cuda(parameter);
        for (double& value : want) value = rounded_to(DType::bf16, value);
        EXPECT_EQ(both.read_cuda(weight), want);
      }
}

TEST(CudaMatrixUpdate, ASkippedStepChangesNothing) {
  Both both;
  const Pair parameter = both.random(DType::f32, {50}, 1), direction = both.random(DType::f32, {50}, 2);
  const Pair ctl = both.make(DType::f64, {kControlSize}, control(0, 1, 2));
  const Pair lr = both.constant(DType::f64, {1}, 1.0);
  both.cuda.matrix_update({.parameter = parameter.cuda,
                           .direction = direction.cuda,
                           .scale = {},
                           .lr = lr.cuda,
                           .control = ctl.cuda});
  EXPECT_EQ(both.read_cuda(parameter), both.read_cpu(parameter));
}

TEST(CudaOptimizer, ViolatedContractsAreErrors) {
  Both both;
  AdamWArrays a(both, 10, control(1, 1, 1));
  AdamW args = a.args(0, cuda_side);
  args.weight = a.parameter.cuda;  // has to be BF16
  EXPECT_THROW(both.cuda.adamw(args), std::runtime_error);
  args = a.args(0, cpu_side);
  args.weight = a.weight.cpu;  // the CPU has none
  EXPECT_THROW(both.cpu.adamw(args), std::runtime_error);
}

}  // namespace
// Matrices at odd places of flat buffers, of sizes with and without whole pieces.
TEST(CudaMatrixUpdate, BatchesAreTheCpus) {
  Both both;
  for (const int64_t size : {int64_t{64}, int64_t{77}, int64_t{5000}}) {
    const int64_t flat = 4 * size + 64;
    const Pair gradients = both.random(DType::f32, {flat}, 1),
               parameters = both.random(DType::f32, {flat}, 2);
    const Pair buffer = both.random(DType::f32, {3 * size}, 3), out = both.zeros(DType::f32, {3 * size});
    const Pair scales = both.make(DType::f64, {3}, {2, -3, 4}), beta = both.make(DType::f64, {1}, {0.8});
    const auto at = [&](int64_t a, int64_t b, int64_t c) {
      return both.make(DType::f64, {3},
                       {static_cast<double>(a), static_cast<double>(b), static_cast<double>(c)});
    };
    const Pair from = at(size + 8, 3, 3 * size + 1), to = at(0, 2 * size, 3 * size + 3);
    const Pair weights_at = at(2 * size + 4, 0, size + 1), weights = both.zeros(DType::bf16, {flat});
    const Pair ctl = both.make(DType::f64, {kControlSize}, control(1, 0.3, 5));
    const Pair lr = both.constant(DType::f64, {1}, 0.02);
    for (const double interpolation : {0.0, 0.9})
      for (const bool nesterov : {false, true}) {
        const auto momentum = [&](auto side) {
          return MomentumUpdate{.gradient = side(gradients),
                                .buffer = side(buffer),
                                .out = side(out),
                                .beta = 0.5,
                                .gain = 1.0,
                                .nesterov = nesterov && interpolation == 0.0,
                                .control = side(ctl),
                                .places = side(from),
                                .beta_now = side(beta),
                                .average = nesterov,
                                .interpolation = interpolation};
        };
        both.cpu.momentum_update(momentum(cpu_side));
        both.cuda.momentum_update(momentum(cuda_side));
        expect_close(both.read_cuda(buffer), both.read_cpu(buffer), 1e-6, "buffer");
        expect_close(both.read_cuda(out), both.read_cpu(out), 1e-6, "out");
        const auto update = [&](auto side) {
          return MatrixUpdate{.parameter = side(parameters),
                              .direction = side(out),
                              .scale = side(scales),
                              .exponent = 0.5,
                              .lr = side(lr),
                              .weight_decay = 0.5,
                              .control = side(ctl),
                              .cautious = nesterov,
                              .places = side(to)};
        };
        both.cpu.matrix_update(update(cpu_side));
        MatrixUpdate on_cuda = update(cuda_side);
        on_cuda.weight = weights.cuda;
        on_cuda.weight_places = weights_at.cuda;
        both.cuda.matrix_update(on_cuda);
        const Values p = both.read_cuda(parameters), w = both.read_cuda(weights);
        const Values begin = both.read_cpu(to), begin_w = both.read_cpu(weights_at);
        expect_close(p, both.read_cpu(parameters), 1e-6, "parameter");
        for (size_t k = 0; k < 3; ++k)
          for (size_t i = 0; i < static_cast<size_t>(size); ++i)
            ASSERT_EQ(w[static_cast<size_t>(begin_w[k]) + i],
                      rounded_to(DType::bf16, p[static_cast<size_t>(begin[k]) + i]));
      }
  }
}

TEST(CudaAdamW, CautiousDecayIsTheCpus) {
  Both both;
  const int64_t n = 1001;
  const Pair p = both.random(DType::f32, {n}, 1), g = both.random(DType::f32, {n}, 2);
  const Pair m = both.random(DType::f32, {n}, 3), v = both.constant(DType::f32, {n}, 0.5);
  const Pair ctl = both.make(DType::f64, {kControlSize}, control(1, 1, 5)),
             lr = both.constant(DType::f64, {1}, 0.1);
  const auto args = [&](auto side) {
    return AdamW{.parameter = side(p),
                 .gradient = side(g),
                 .m = side(m),
                 .v = side(v),
                 .lr = side(lr),
                 .weight_decay = 0.5,
                 .control = side(ctl),
                 .cautious = true};
  };
  both.cpu.adamw(args(cpu_side));
  both.cuda.adamw(args(cuda_side));
  expect_close(both.read_cuda(p), both.read_cpu(p), 1e-6, "parameter");
}

}  // namespace polar::cuda::test
