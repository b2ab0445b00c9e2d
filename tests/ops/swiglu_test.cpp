// SwiGLU against its formula and central differences in double.
#include "device.h"

namespace polar::testing {
namespace {

const int64_t kRows[] = {1, 7, 33, 130};
const int64_t kCols[] = {1, 5, 64, 200};

TEST(SwiGlu, ForwardIsTheFormula) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (int64_t rows : kRows)
      for (int64_t cols : kCols) {
        const Tensor x = device.random(dtype, {rows, 2 * cols}, 1, 3.0);
        const Tensor y = device.zeros(dtype, {rows, cols + 2});
        device->swiglu_forward(x, MatrixView(y).columns(1, cols));
        const Values in = device.read(x);
        const Values gate = columns_of(in, 2 * cols, 0, cols), up = columns_of(in, 2 * cols, cols, cols);
        Values want(gate.size());
        for (size_t i = 0; i < want.size(); ++i) want[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
        expect_close(columns_of(device.read(y), cols + 2, 1, cols), want, dtype == DType::f32 ? 4e-7 : 1e-15,
                     "swiglu");
      }
}

TEST(SwiGlu, BackwardIsTheGradient) {
  Device device;
  for (int64_t rows : kRows)
    for (int64_t cols : kCols) {
      const Tensor x = device.random(DType::f64, {rows, 2 * cols}, 2, 2.0);
      const Tensor dy = device.random(DType::f64, {rows, cols}, 3);
      const Tensor y = device.zeros(DType::f64, {rows, cols}),
                   dx = device.zeros(DType::f64, {rows, 2 * cols});
      device->swiglu_backward(dy, x, dx);
      const Values weights = device.read(dy);
      expect_gradient(
          device, x, device.read(dx),
          [&] {
            device->swiglu_forward(x, y);
            return dot(device.read(y), weights);
          },
          "dgate_up");
    }
}

TEST(SwiGlu, BackwardInPlaceInF32AndOnAnyThreads) {
  Values first;
  for (int threads : {1, 2}) {
    Device device(threads);
    const Tensor x = device.random(DType::f32, {130, 400}, 4, 2.0),
                 dy = device.random(DType::f32, {130, 200}, 5);
    const Tensor wide = device.make(DType::f64, {130, 400}, device.read(x));
    const Tensor dwide = device.zeros(DType::f64, {130, 400});
    device->swiglu_backward(device.make(DType::f64, {130, 200}, device.read(dy)), wide, dwide);
    device->swiglu_backward(dy, x, x);
    expect_close(device.read(x), device.read(dwide), 4e-7, "dgate_up in place");
    if (first.empty()) first = device.read(x);
    EXPECT_EQ(device.read(x), first);
  }
}

TEST(SwiGlu, LargeGatesSaturate) {
  Device device;
  const Tensor x = device.make(DType::f32, {1, 4}, {200.0, -200.0, 3.0, 3.0}),
               y = device.zeros(DType::f32, {1, 2});
  device->swiglu_forward(x, y);
  EXPECT_EQ(device.read(y), (Values{600.0, 0.0}));  // -200 * exp(-200) * 3 is below the smallest float
}

}  // namespace
}  // namespace polar::testing
