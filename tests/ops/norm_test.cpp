// RMSNorm against its formula and central differences in double.
#include "device.h"

namespace polar::testing {
namespace {

const int64_t kRows[] = {1, 7, 33, 130};
const int64_t kCols[] = {1, 5, 64, 200};
constexpr double kEps = 1e-5;

struct Reference {
  Values sum, output, rstd;
};

Reference reference(const Values& x, const Values& residual, const Values& weight) {
  Reference out{x, x, {}};
  const size_t cols = weight.size();
  for (size_t i = 0; i < residual.size(); ++i) out.sum[i] += residual[i];
  for (size_t row = 0; row < x.size(); row += cols) {
    double squares = 0.0;
    for (size_t j = 0; j < cols; ++j) squares += out.sum[row + j] * out.sum[row + j];
    out.rstd.push_back(1.0 / std::sqrt(squares / static_cast<double>(cols) + kEps));
    for (size_t j = 0; j < cols; ++j) out.output[row + j] = out.sum[row + j] * out.rstd.back() * weight[j];
  }
  return out;
}

TEST(RmsNorm, ForwardWithResidualInEveryPlace) {
  enum class Place { own, input, residual };
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (Place place : {Place::own, Place::input, Place::residual})
      for (int64_t rows : kRows)
        for (int64_t cols : kCols) {
          const Tensor x = device.random(dtype, {rows, cols}, 1), r = device.random(dtype, {rows, cols}, 2);
          const Tensor weight = device.random(dtype, {cols}, 3), rstd = device.zeros(dtype, {rows});
          const Tensor output = device.zeros(dtype, {rows, cols + 3});
          const Tensor sum = place == Place::own     ? device.zeros(dtype, {rows, cols})
                             : place == Place::input ? x
                                                     : r;
          const Reference want = reference(device.read(x), device.read(r), device.read(weight));
          device->rms_norm_forward({.input = x,
                                    .residual = r,
                                    .sum = sum,
                                    .weight = weight,
                                    .eps = kEps,
                                    .output = MatrixView(output).columns(2, cols),
                                    .rstd = rstd});
          const double tolerance = dtype == DType::f32 ? 5e-7 : 1e-14;
          expect_close(device.read(sum), want.sum, tolerance, "sum");
          expect_close(device.read(rstd), want.rstd, tolerance, "rstd");
          expect_close(columns_of(device.read(output), cols + 3, 2, cols), want.output, tolerance, "output");
        }
}

TEST(RmsNorm, ForwardWithoutResidualLeavesTheInput) {
  Device device;
  const Tensor x = device.random(DType::f32, {33, 64}, 1), y = device.zeros(DType::f32, {33, 64});
  const Tensor weight = device.random(DType::f32, {64}, 3), rstd = device.zeros(DType::f32, {33});
  const Values before = device.read(x);
  device->rms_norm_forward(
      {.input = x, .residual = {}, .sum = {}, .weight = weight, .eps = kEps, .output = y, .rstd = rstd});
  EXPECT_EQ(device.read(x), before);
  expect_close(device.read(y), reference(before, {}, device.read(weight)).output, 5e-7, "output");
}

// Runs forward and backward; gradients are added to what dinput and dweight hold.
struct Gradients {
  Values dinput, dweight;
};
Gradients backward(Device& device, DType dtype, int64_t rows, int64_t cols, const Tensor& x,
                   const Tensor& weight, const Tensor& dy, const Values& dinput0, const Values& dweight0) {
  const Tensor y = device.zeros(dtype, {rows, cols}), rstd = device.zeros(dtype, {rows});
  device->rms_norm_forward(
      {.input = x, .residual = {}, .sum = {}, .weight = weight, .eps = kEps, .output = y, .rstd = rstd});
  const Tensor dx = device.make(dtype, {rows, cols}, dinput0), dw = device.make(dtype, {cols}, dweight0);
  device->rms_norm_backward(
      {.doutput = dy,
       .input = x,
       .weight = weight,
       .rstd = rstd,
       .dinput = dx,
       .dweight = dw,
       .workspace = device.bytes(device->rms_norm_backward_workspace(rows, cols, dtype))});
  return {device.read(dx), device.read(dw)};
}

TEST(RmsNorm, BackwardIsTheGradientAndAccumulates) {
  Device device;
  for (int64_t rows : kRows)
    for (int64_t cols : kCols) {
      const Tensor x = device.random(DType::f64, {rows, cols}, 1),
                   weight = device.random(DType::f64, {cols}, 2);
      const Tensor dy = device.random(DType::f64, {rows, cols}, 3);
      const Values dx0 = random_values(rows * cols, 4), dw0 = random_values(cols, 5);
      Gradients got = backward(device, DType::f64, rows, cols, x, weight, dy, dx0, dw0);
      for (size_t i = 0; i < dx0.size(); ++i) got.dinput[i] -= dx0[i];
      for (size_t i = 0; i < dw0.size(); ++i) got.dweight[i] -= dw0[i];
      const Tensor y = device.zeros(DType::f64, {rows, cols}), rstd = device.zeros(DType::f64, {rows});
      const Values weights = device.read(dy);
      const auto loss = [&] {
        device->rms_norm_forward({.input = x,
                                  .residual = {},
                                  .sum = {},
                                  .weight = weight,
                                  .eps = kEps,
                                  .output = y,
                                  .rstd = rstd});
        return dot(device.read(y), weights);
      };
      if (cols > 1) expect_gradient(device, x, got.dinput, loss, "dinput");  // one column: 1/sqrt(eps) slopes
      expect_gradient(device, weight, got.dweight, loss, "dweight");
    }
}

TEST(RmsNorm, BackwardInF32OnAnyThreads) {
  for (int64_t rows : {33, 2000}) {
    const int64_t cols = 200;
    Gradients first;
    for (int threads : {1, 2}) {
      Device device(threads);
      const Tensor x = device.random(DType::f32, {rows, cols}, 1),
                   weight = device.random(DType::f32, {cols}, 2);
      const Tensor dy = device.random(DType::f32, {rows, cols}, 3);
      const Values dx0(static_cast<size_t>(rows * cols)), dw0(static_cast<size_t>(cols));
      const Gradients got = backward(device, DType::f32, rows, cols, x, weight, dy, dx0, dw0);
      const auto wide = [&](const Tensor& t) { return device.make(DType::f64, t.shape, device.read(t)); };
      const Gradients want =
          backward(device, DType::f64, rows, cols, wide(x), wide(weight), wide(dy), dx0, dw0);
      expect_close(got.dinput, want.dinput, 1e-6, "dinput");
      expect_close(got.dweight, want.dweight, 2e-6, "dweight");
      if (threads == 1) first = got;
      EXPECT_EQ(got.dinput, first.dinput);
      EXPECT_EQ(got.dweight, first.dweight);
    }
  }
}

TEST(RmsNorm, ViolatedContractsAreErrors) {
  Device device;
  const Tensor x = device.zeros(DType::f32, {3, 4}), weight = device.zeros(DType::f32, {5});
  EXPECT_THROW(device->rms_norm_forward({.input = x,
                                         .residual = {},
                                         .sum = {},
                                         .weight = weight,
                                         .eps = kEps,
                                         .output = x,
                                         .rstd = device.zeros(DType::f32, {3})}),
               std::runtime_error);
}

}  // namespace
}  // namespace polar::testing
