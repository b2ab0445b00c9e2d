// Optimizer steps against their formulas in double; skipped steps leave every bit alone.
#include "device.h"

namespace polar::testing {
namespace {

const int64_t kCounts[] = {1, 5, 200, 40000};

Tensor make_control(Device& device, double apply, double gradient_scale, double steps) {
  Values control(kControlSize);
  control[kControlApply] = apply;
  control[kControlGradientScale] = gradient_scale;
  control[kControlAppliedSteps] = steps;
  return device.make(DType::f64, {kControlSize}, control);
}

// torch.optim.AdamW's documented update, one element at a time.
void adamw_reference(const AdamW& a, double lr, double t, double scale, const Values& gradient, Values& p,
                     Values& m, Values& v) {
  for (size_t i = 0; i < p.size(); ++i) {
    const double g = scale * gradient[i];
    p[i] -= lr * a.weight_decay * p[i];
    m[i] = a.beta1 * m[i] + (1 - a.beta1) * g;
    v[i] = a.beta2 * v[i] + (1 - a.beta2) * g * g;
    const double denominator = std::sqrt(v[i]) / std::sqrt(1 - std::pow(a.beta2, t)) + a.eps;
    p[i] -= lr / (1 - std::pow(a.beta1, t)) * m[i] / denominator;
  }
}

TEST(AdamW, ThreeStepsOfTheFormula) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (int64_t n : kCounts) {
      AdamW args{.parameter = device.random(dtype, {n}, 1),
                 .gradient = device.random(dtype, {n}, 2, 1e-3),
                 .m = device.zeros(dtype, {n}),
                 .v = device.zeros(dtype, {n}),
                 .lr = device.make(DType::f64, {1}, {1e-2}),
                 .weight_decay = 0.1,
                 .control = {}};
      Values p = device.read(args.parameter), m(p.size()), v(p.size());
      for (double t : {1.0, 2.0, 3.0}) {
        args.control = make_control(device, 1.0, 0.5 * t, t);
        device->adamw(args);
        adamw_reference(args, 1e-2, t, 0.5 * t, device.read(args.gradient), p, m, v);
        device.write(args.gradient, random_values(n, 10 + static_cast<uint64_t>(t), 1e-3));
      }
      const double tolerance = dtype == DType::f32 ? 1e-6 : 1e-14;
      expect_close(device.read(args.m), m, tolerance, "m");
      expect_close(device.read(args.v), v, tolerance, "v");
      expect_close(device.read(args.parameter), p, tolerance, "parameter");
    }
}

TEST(AdamW, AZeroGradientOnlyDecays) {
  Device device;
  AdamW args{.parameter = device.make(DType::f64, {2}, {1.0, -2.0}),
             .gradient = device.zeros(DType::f64, {2}),
             .m = device.zeros(DType::f64, {2}),
             .v = device.zeros(DType::f64, {2}),
             .lr = device.make(DType::f64, {1}, {0.5}),
             .weight_decay = 0.5,
             .control = make_control(device, 1, 1, 1)};
  device->adamw(args);
  EXPECT_EQ(device.read(args.parameter), (Values{0.75, -1.5}));
}

TEST(MomentumUpdate, EveryForm) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (int64_t n : kCounts)
      for (bool nesterov : {false, true})
        for (bool with_out : {false, true}) {
          MomentumUpdate args{.gradient = device.random(dtype, {n}, 1),
                              .buffer = device.random(dtype, {n}, 2),
                              .out = with_out ? device.zeros(dtype, {n}) : Tensor{},
                              .beta = 0.9,
                              .gain = 0.25,
                              .nesterov = nesterov,
                              .control = make_control(device, 1, 0.5, 1)};
          const Values g = device.read(args.gradient), old = device.read(args.buffer);
          Values buffer(g.size()), out(g.size());
          for (size_t i = 0; i < g.size(); ++i) {
            buffer[i] = 0.9 * old[i] + 0.125 * g[i];
            out[i] = nesterov ? 0.9 * buffer[i] + 0.125 * g[i] : buffer[i];
          }
          device->momentum_update(args);
          const double tolerance = dtype == DType::f32 ? 2e-7 : 1e-15;
          expect_close(device.read(args.buffer), buffer, tolerance, "buffer");
          if (with_out) expect_close(device.read(args.out), out, tolerance, "out");
        }
}

TEST(MatrixUpdate, ScaleExponentAndDecay) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (int64_t n : kCounts)
      for (double exponent : {0.0, 0.5, 1.0})
        for (bool with_scale : {false, true}) {
          MatrixUpdate args{.parameter = device.random(dtype, {n}, 1),
                            .direction = device.random(dtype, {n}, 2),
                            .scale = with_scale ? device.make(DType::f64, {1}, {-9.0}) : Tensor{},
                            .exponent = exponent,
                            .lr = device.make(DType::f64, {1}, {0.1}),
                            .multiplier = 0.2,
                            .weight_decay = 0.3,
                            .control = make_control(device, 1, 123.0, 1)};
          Values want = device.read(args.parameter);
          const Values direction = device.read(args.direction);
          const double power = with_scale ? std::pow(9.0, exponent) : 1.0;
          for (size_t i = 0; i < want.size(); ++i)
            want[i] = (1 - 0.1 * 0.3) * want[i] - 0.1 * 0.2 * power * direction[i];
          device->matrix_update(args);
          expect_close(device.read(args.parameter), want, dtype == DType::f32 ? 2e-7 : 1e-15, "parameter");
        }
}

// A batch out of flat buffers is what its matrices are one by one, bit for bit; the rest is left alone.
TEST(OptimizerSteps, ABatchIsItsMatrices) {
  Device device;
  const int64_t n = 300;
  const Values from{7, 1000, 400}, to{900, 3, 500};
  const Tensor flat = device.random(DType::f32, {1400}, 1), parameters = device.random(DType::f32, {1400}, 2);
  const Tensor buffer = device.random(DType::f32, {3 * n}, 3), out = device.zeros(DType::f32, {3 * n});
  const Tensor control = make_control(device, 1, 0.5, 1), lr = device.make(DType::f64, {1}, {0.1});
  const Tensor scales = device.make(DType::f64, {3}, {2, 3, 4});
  const Tensor beta = device.make(DType::f64, {1}, {0.8});
  const Values old_buffer = device.read(buffer), old_parameters = device.read(parameters);
  const auto both = [&](const auto& step) {
    device.write(buffer, old_buffer);
    device.write(parameters, old_parameters);
    step();
    return std::pair(device.read(out), device.read(parameters));
  };
  const auto batched = both([&] {
    device->momentum_update({.gradient = flat,
                             .buffer = buffer,
                             .out = out,
                             .nesterov = true,
                             .control = control,
                             .places = device.make(DType::f64, {3}, from),
                             .beta_now = beta,
                             .average = true});
    device->matrix_update({.parameter = parameters,
                           .direction = out,
                           .scale = scales,
                           .lr = lr,
                           .weight_decay = 0.1,
                           .control = control,
                           .cautious = true,
                           .places = device.make(DType::f64, {3}, to)});
  });
  const auto single = both([&] {
    for (int64_t i = 0; i < 3; ++i) {
      const auto k = static_cast<size_t>(i);
      device->momentum_update({.gradient = flat.slice(static_cast<int64_t>(from[k]), {n}),
                               .buffer = buffer.slice(i * n, {n}),
                               .out = out.slice(i * n, {n}),
                               .beta = 0.8,
                               .gain = 1.0 - 0.8,
                               .nesterov = true,
                               .control = control});
      device->matrix_update({.parameter = parameters.slice(static_cast<int64_t>(to[k]), {n}),
                             .direction = out.slice(i * n, {n}),
                             .scale = scales.slice(i, {1}),
                             .lr = lr,
                             .weight_decay = 0.1,
                             .control = control,
                             .cautious = true});
    }
  });
  EXPECT_EQ(batched, single);
  EXPECT_EQ(batched.second[1200], old_parameters[1200]);
  EXPECT_NE(batched.second[900], old_parameters[900]);
}

TEST(MomentumUpdate, LionLooksAtTheOldBuffer) {
  Device device;
  const Tensor gradient = device.make(DType::f64, {2}, {4, -8}),
               buffer = device.make(DType::f64, {2}, {1, 2});
  const Tensor out = device.zeros(DType::f64, {2});
  device->momentum_update({.gradient = gradient,
                           .buffer = buffer,
                           .out = out,
                           .beta = 0.75,
                           .gain = 0.25,
                           .control = make_control(device, 1, 0.5, 1),
                           .interpolation = 0.5});
  EXPECT_EQ(device.read(out), (Values{1.5, -1.0}));
  EXPECT_EQ(device.read(buffer), (Values{1.25, 0.5}));
}

// NaN in the gradient, as after a bad step: nothing of it may reach the state.
TEST(OptimizerSteps, ASkippedStepLeavesEveryBit) {
  Device device;
  const int64_t n = 20000;
  const Tensor control = make_control(device, 0, 1, 5), lr = device.make(DType::f64, {1}, {1.0});
  const Tensor bad = device.make(DType::f32, {n}, Values(n, std::nan("")));
  const Tensor a = device.random(DType::f32, {n}, 1), b = device.random(DType::f32, {n}, 2);
  const Tensor c = device.random(DType::f32, {n}, 3);
  const Values a0 = device.read(a), b0 = device.read(b), c0 = device.read(c);
  device->adamw(
      {.parameter = a, .gradient = bad, .m = b, .v = c, .lr = lr, .weight_decay = 1, .control = control});
  device->momentum_update({.gradient = bad, .buffer = a, .out = b, .control = control});
  device->matrix_update(
      {.parameter = c, .direction = bad, .scale = {}, .lr = lr, .weight_decay = 1, .control = control});
  EXPECT_EQ(device.read(a), a0);
  EXPECT_EQ(device.read(b), b0);
  EXPECT_EQ(device.read(c), c0);
}

TEST(OptimizerSteps, SameBitsOnAnyThreads) {
  Values first;
  for (int threads : {1, 2}) {
    Device device(threads);
    const int64_t n = 100003;
    const Tensor p = device.random(DType::f32, {n}, 1), g = device.random(DType::f32, {n}, 2);
    const Tensor m = device.random(DType::f32, {n}, 3), v = device.make(DType::f32, {n}, Values(n, 0.5));
    const Tensor control = make_control(device, 1, 0.7, 3), lr = device.make(DType::f64, {1}, {1e-3});
    device->adamw(
        {.parameter = p, .gradient = g, .m = m, .v = v, .lr = lr, .weight_decay = 0.1, .control = control});
    device->momentum_update({.gradient = g, .buffer = m, .out = v, .nesterov = true, .control = control});
    device->matrix_update({.parameter = p, .direction = v, .scale = {}, .lr = lr, .control = control});
    if (threads == 1) first = device.read(p);
    EXPECT_EQ(device.read(p), first);
  }
}

}  // namespace
}  // namespace polar::testing
