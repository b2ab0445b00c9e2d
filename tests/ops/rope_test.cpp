// Per-head RMSNorm and rotary embedding against the formula as complex rotations, and central differences.
#include <complex>

#include "device.h"

namespace polar::testing {
namespace {

constexpr double kEps = 1e-6;

struct Case {
  int64_t rows, time, first_position, heads, width;
  bool norm;
};

std::vector<Case> cases() {
  std::vector<Case> out;
  for (bool norm : {false, true}) {
    out.push_back({1, 1, 0, 1, 2, norm});
    out.push_back({7, 7, 0, 3, 6, norm});
    out.push_back({33, 11, 0, 1, 64, norm});  // three sequences
    out.push_back({130, 65, 0, 7, 32, norm});
    out.push_back({2, 1, 40, 2, 16, norm});  // decoding: one new position in each of two sequences
  }
  return out;
}

double angle(int64_t position, int64_t j, int64_t width) {
  return static_cast<double>(position) *
         std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(width));
}

Values table(int64_t positions, int64_t width) {
  Values out;
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t j = 0; j < width / 2; ++j) out.push_back(std::cos(angle(p, j, width)));
    for (int64_t j = 0; j < width / 2; ++j) out.push_back(std::sin(angle(p, j, width)));
  }
  return out;
}

// Pairs (x[j], x[j + D/2]) as complex numbers, times e^(i angle).
Values reference(const Case& c, const Values& x, const Values& weight) {
  Values out(x.size());
  const auto width = static_cast<size_t>(c.width);
  for (size_t head = 0; head < x.size(); head += width) {
    double squares = 0.0;
    for (size_t j = 0; j < width; ++j) squares += x[head + j] * x[head + j];
    const double rstd = c.norm ? 1.0 / std::sqrt(squares / static_cast<double>(width) + kEps) : 1.0;
    const auto value = [&](size_t j) { return x[head + j] * rstd * (c.norm ? weight[j] : 1.0); };
    const int64_t row = static_cast<int64_t>(head) / (c.heads * c.width);
    for (size_t j = 0; j < width / 2; ++j) {
      const std::complex<double> z =
          std::complex<double>(value(j), value(j + width / 2)) *
          std::polar(1.0, angle(c.first_position + row % c.time, static_cast<int64_t>(j), c.width));
      out[head + j] = z.real();
      out[head + j + width / 2] = z.imag();
    }
  }
  return out;
}

class Harness {
 public:
  Harness(Device& device, const Case& c, DType dtype)
      : device_(device),
        c_(c),
        dtype_(dtype),
        weight_(c.norm ? device.random(dtype, {c.width}, 2) : Tensor{}),
        table_(device.make(dtype, {c.first_position + c.time, c.width},
                           table(c.first_position + c.time, c.width))) {}

  const Tensor& weight() const { return weight_; }
  void forward(const MatrixView& x, const MatrixView& y) const {
    QkNormRopeForward args;
    fill(args);
    args.input = x;
    args.weight = weight_;
    args.output = y;
    device_->qk_norm_rope_forward(args);
  }
  void backward(const MatrixView& x, const MatrixView& gradient, const Tensor& dweight) const {
    QkNormRopeBackward args;
    fill(args);
    if (c_.norm) args.input = x;
    args.weight = weight_;
    args.dgradient = gradient;
    args.dweight = dweight;
    args.workspace =
        device_.bytes(device_->qk_norm_rope_backward_workspace(c_.rows, c_.heads, c_.width, dtype_));
    device_->qk_norm_rope_backward(args);
  }

 private:
  void fill(QkNormRope& args) const {
    args.time = c_.time;
    args.first_position = c_.first_position;
    args.heads = c_.heads;
    args.head_dim = c_.width;
    args.eps = kEps;
    args.rope_table = table_;
  }
  Device& device_;
  Case c_;
  DType dtype_;
  Tensor weight_, table_;
};

TEST(QkNormRope, ForwardIsTheRotationOutOfAndInPlace) {
  Device device;
  for (DType dtype : {DType::f32, DType::f64})
    for (const Case& c : cases()) {
      const Harness harness(device, c, dtype);
      const int64_t cols = c.heads * c.width, stride = 3 * cols;  // as in a fused q|k|v
      const Tensor fused = device.random(dtype, {c.rows, stride}, 1), y = device.zeros(dtype, {c.rows, cols});
      const MatrixView x = MatrixView(fused).columns(cols, cols);
      const Values before = device.read(fused);
      const Values want = reference(c, columns_of(before, stride, cols, cols),
                                    c.norm ? device.read(harness.weight()) : Values{});
      const double tolerance = dtype == DType::f32 ? 1e-6 : 1e-14;
      harness.forward(x, y);
      expect_close(device.read(y), want, tolerance, "output");
      EXPECT_EQ(device.read(fused), before);
      harness.forward(x, x);
      expect_close(columns_of(device.read(fused), stride, cols, cols), want, tolerance, "in place");
      EXPECT_EQ(columns_of(device.read(fused), stride, 0, cols), columns_of(before, stride, 0, cols));
    }
}

TEST(QkNormRope, BackwardIsTheGradient) {
  Device device;
  for (const Case& c : cases()) {
    const Harness harness(device, c, DType::f64);
    const int64_t cols = c.heads * c.width;
    const Tensor x = device.random(DType::f64, {c.rows, cols}, 1),
                 y = device.zeros(DType::f64, {c.rows, cols});
    const Tensor gradient = device.random(DType::f64, {c.rows, 2 * cols}, 3);
    const Values dw0 = random_values(c.width, 4);
    const Tensor dweight = c.norm ? device.make(DType::f64, {c.width}, dw0) : Tensor{};
    const Values weights = columns_of(device.read(gradient), 2 * cols, cols, cols);
    harness.backward(x, MatrixView(gradient).columns(cols, cols), dweight);
    const auto loss = [&] {
      harness.forward(x, y);
      return dot(device.read(y), weights);
    };
    expect_gradient(device, x, columns_of(device.read(gradient), 2 * cols, cols, cols), loss, "dinput");
    if (!c.norm) continue;
    Values dw = device.read(dweight);
    for (size_t i = 0; i < dw.size(); ++i) dw[i] -= dw0[i];
    expect_gradient(device, harness.weight(), dw, loss, "dweight");
  }
}

TEST(QkNormRope, BackwardInF32OnAnyThreads) {
  const Case c{1000, 250, 0, 4, 32, true};
  const int64_t cols = c.heads * c.width;
  Values first, first_weight;
  for (int threads : {1, 2}) {
    Device device(threads);
    Values results[2], weights[2];
    for (DType dtype : {DType::f32, DType::f64}) {
      const Harness harness(device, c, dtype);
      // The same numbers for both: what f32 can hold.
      const Tensor x =
          device.make(dtype, {c.rows, cols}, device.read(device.random(DType::f32, {c.rows, cols}, 1)));
      const Tensor g =
          device.make(dtype, {c.rows, cols}, device.read(device.random(DType::f32, {c.rows, cols}, 3)));
      const Tensor dweight = device.zeros(dtype, {c.width});
      harness.backward(x, g, dweight);
      results[dtype == DType::f64] = device.read(g);
      weights[dtype == DType::f64] = device.read(dweight);
    }
    expect_close(results[0], results[1], 1e-6, "dinput");
    expect_close(weights[0], weights[1], 2e-6, "dweight");
    if (threads == 1) {
      first = results[0];
      first_weight = weights[0];
    }
    EXPECT_EQ(results[0], first);
    EXPECT_EQ(weights[0], first_weight);
  }
}

TEST(QkNormRope, PositionsBeyondTheTableAreErrors) {
  Device device;
  const Tensor x = device.zeros(DType::f32, {8, 4});
  QkNormRopeForward args;
  args.time = 8;
  args.heads = 1;
  args.head_dim = 4;
  args.rope_table = device.zeros(DType::f32, {7, 4});
  args.input = x;
  args.output = x;
  EXPECT_THROW(device->qk_norm_rope_forward(args), std::runtime_error);
}

}  // namespace
}  // namespace polar::testing
