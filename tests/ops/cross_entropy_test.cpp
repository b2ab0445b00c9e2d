// The fused cross-entropy against the formulas in double and against central differences.
#include <algorithm>
#include <limits>

#include "base/error.h"
#include "ops/device.h"

namespace polar {
namespace {

using testing::Device;
using testing::Values;

constexpr int32_t kIgnore = -100;

struct Case {
  int64_t rows, cols, vocabulary;
  double z_loss, softcap;
  int ignored_of_8;     // how many of 8 targets are ignored
  double spread = 1.0;  // of the hidden states: logits have a deviation of spread * sqrt(C)
  std::string text() const {
    return fmt::format("N{} C{} V{} z_loss {} softcap {} ignored {}/8 spread {}", rows, cols, vocabulary,
                       z_loss, softcap, ignored_of_8, spread);
  }
};

// All tensors of a case.
struct Loss {
  Device device;
  CrossEntropy args;
  Tensor hidden, dhidden;

  Loss(const Case& c, DType dtype, int threads = 2) : device(threads) {
    hidden = device.random(dtype, {c.rows, c.cols}, 1, c.spread);
    dhidden = device.random(dtype, {c.rows, c.cols}, 2);  // overwritten
    Values targets;
    for (int64_t i = 0; i < c.rows; ++i) {
      const uint64_t bits = random_bits(9, 9, static_cast<uint64_t>(i));
      const bool ignored = static_cast<int>(bits % 8) < c.ignored_of_8;
      targets.push_back(ignored ? kIgnore : static_cast<double>((bits >> 8) % uint64_t(c.vocabulary)));
    }
    args.hidden = hidden;
    args.head = device.random(dtype, {c.vocabulary, c.cols}, 3);
    args.targets = device.make(DType::i32, {c.rows}, targets);
    args.ignore_index = kIgnore;
    args.z_loss = c.z_loss;
    args.softcap = c.softcap;
    args.gradient_scale = 0.25;
    args.losses = device.random(dtype, {c.rows}, 5);  // overwritten
    args.lse = device.random(dtype, {c.rows}, 6);     // overwritten
    args.dhidden = dhidden;
    args.dhead = device.random(dtype, {c.vocabulary, c.cols}, 4);  // added to
    args.workspace = device.bytes(device->cross_entropy_workspace(c.rows, c.cols, c.vocabulary, dtype));
  }
  void run() { device->cross_entropy(args); }
  void run_forward_only() {
    CrossEntropy forward = args;
    forward.dhidden = {};
    forward.dhead = {};
    device->cross_entropy(forward);
  }
};

// The definition in double. `dhead` starts from the tensor's present content.
struct Naive {
  Values losses, lse, dhidden, dhead;

  Naive(const Loss& loss, const Case& c)
      : dhidden(size_t(c.rows * c.cols)), dhead(loss.device.read(loss.args.dhead)) {
    const Values hidden = loss.device.read(loss.hidden), head = loss.device.read(loss.args.head);
    const Values targets = loss.device.read(loss.args.targets);
    for (int64_t i = 0; i < c.rows; ++i)
      row(c, loss.args.gradient_scale, i, hidden, head, targets[size_t(i)]);
  }

 private:
  void row(const Case& c, double scale, int64_t i, const Values& hidden, const Values& head, double target) {
    const auto width = size_t(c.cols), h = size_t(i) * width;
    Values y(size_t(c.vocabulary), 0.0);
    for (size_t j = 0; j < y.size(); ++j) {
      for (size_t e = 0; e < width; ++e) y[j] += hidden[h + e] * head[j * width + e];
      if (c.softcap > 0.0) y[j] = c.softcap * std::tanh(y[j] / c.softcap);
    }
    const double greatest = *std::max_element(y.begin(), y.end());
    double sum = 0.0;
    for (const double value : y) sum += std::exp(value - greatest);
    lse.push_back(greatest + std::log(sum));
    const bool ignored = target == kIgnore;
    losses.push_back(ignored ? 0.0 : greatest - y[size_t(target)] + std::log(sum));
    if (ignored) return;
    for (size_t j = 0; j < y.size(); ++j) {
      double gradient = std::exp(y[j] - greatest) / sum * (1.0 + 2.0 * c.z_loss * lse.back());
      if (j == size_t(target)) gradient -= 1.0;
      if (c.softcap > 0.0) gradient *= 1.0 - (y[j] / c.softcap) * (y[j] / c.softcap);
      for (size_t e = 0; e < width; ++e) {
        dhidden[h + e] += scale * gradient * head[j * width + e];
        dhead[j * width + e] += scale * gradient * hidden[h + e];
      }
    }
  }
};

// A logit is a sum of C terms; its absolute error C eps max|logit| is the relative error of its probability.
// The gradients add sums over V and N to that. First-order bounds, with the typical logit sqrt(C) * spread.
double tolerance(DType dtype, const Case& c) {
  const double logit = c.softcap > 0.0 ? c.softcap : c.spread * std::sqrt(double(c.cols));
  const double terms = double(c.cols) * (1.0 + logit) + std::sqrt(double(c.rows + c.vocabulary)) + 16.0;
  return terms * (dtype == DType::f32 ? 0x1p-24 : 0x1p-53);
}

void expect_naive(const Case& c, DType dtype) {
  SCOPED_TRACE(c.text());
  Loss loss(c, dtype);
  const Naive want(loss, c);
  const double bound = tolerance(dtype, c);
  loss.run();
  testing::expect_close(loss.device.read(loss.args.losses), want.losses, bound, "losses");
  testing::expect_close(loss.device.read(loss.args.lse), want.lse, bound, "lse");
  testing::expect_close(loss.device.read(loss.dhidden), want.dhidden, bound, "dhidden");
  testing::expect_close(loss.device.read(loss.args.dhead), want.dhead, bound, "dhead");
}

const Case kCases[] = {
    {1, 1, 1, 0.0, 0.0, 0},     {1, 8, 37, 0.0, 0.0, 0},     {7, 20, 33, 0.0, 0.0, 3},
    {5, 16, 100, 1e-2, 0.0, 2}, {9, 16, 130, 0.0, 3.0, 2},   {33, 24, 257, 1e-2, 5.0, 1},
    {255, 8, 40, 0.0, 0.0, 2},  {256, 8, 40, 0.0, 0.0, 2},   {257, 8, 40, 1e-3, 0.0, 2},
    {530, 12, 70, 0.0, 9.0, 4}, {3, 32, 5000, 1e-3, 0.0, 0},
};

TEST(CrossEntropyLoss, AgreesWithTheDefinitionInDouble) {
  for (const Case& c : kCases) expect_naive(c, DType::f64);
}

TEST(CrossEntropyLoss, AgreesWithTheDefinitionInFloat) {
  for (const Case& c : kCases) expect_naive(c, DType::f32);
}

TEST(CrossEntropyLoss, GradientsAgreeWithCentralDifferences) {
  for (const Case& c : {Case{5, 6, 30, 0.0, 0.0, 2}, Case{5, 6, 30, 1e-2, 0.0, 0},
                        Case{4, 6, 20, 1e-2, 2.0, 1}, Case{258, 3, 10, 1e-2, 0.0, 1}}) {
    SCOPED_TRACE(c.text());
    Loss loss(c, DType::f64);
    loss.device->fill(loss.args.dhead, 0.0);
    loss.run();
    const auto objective = [&] {
      loss.run_forward_only();
      const Values losses = loss.device.read(loss.args.losses), lse = loss.device.read(loss.args.lse);
      const Values targets = loss.device.read(loss.args.targets);
      double sum = 0.0;
      for (size_t i = 0; i < losses.size(); ++i)
        if (targets[i] != kIgnore) sum += losses[i] + c.z_loss * lse[i] * lse[i];
      return loss.args.gradient_scale * sum;
    };
    testing::expect_gradient(loss.device, loss.hidden, loss.device.read(loss.dhidden), objective, "dhidden");
    testing::expect_gradient(loss.device, loss.args.head, loss.device.read(loss.args.dhead), objective,
                             "dhead");
  }
}

TEST(CrossEntropyLoss, ForwardOnlyGivesTheSameBitsAndTouchesNothingElse) {
  const Case c{300, 16, 90, 1e-3, 7.0, 2};
  Loss both(c, DType::f32), forward(c, DType::f32);
  const Values dhead = forward.device.read(forward.args.dhead);
  both.run();
  forward.run_forward_only();
  EXPECT_EQ(both.device.read(both.args.losses), forward.device.read(forward.args.losses));
  EXPECT_EQ(both.device.read(both.args.lse), forward.device.read(forward.args.lse));
  EXPECT_EQ(forward.device.read(forward.args.dhead), dhead);
}

TEST(CrossEntropyLoss, FullyIgnoredBatchGivesNothing) {
  const Case c{300, 8, 20, 1e-2, 0.0, 8};
  Loss loss(c, DType::f32);
  loss.args.lse = {};
  const Values dhead = loss.device.read(loss.args.dhead);
  loss.run();
  EXPECT_EQ(loss.device.read(loss.args.losses), Values(300, 0.0));
  EXPECT_EQ(loss.device.read(loss.dhidden), Values(300 * 8, 0.0));
  EXPECT_EQ(loss.device.read(loss.args.dhead), dhead);
}

TEST(CrossEntropyLoss, BitsDoNotDependOnTheNumberOfThreads) {
  const Case c{300, 64, 1500, 1e-3, 0.0, 1};
  Loss one(c, DType::f32, 1), two(c, DType::f32, 2), three(c, DType::f32, 3);
  for (Loss* loss : {&one, &two, &three}) loss->run();
  for (const Loss* other : {&two, &three}) {
    EXPECT_EQ(one.device.read(one.args.losses), other->device.read(other->args.losses));
    EXPECT_EQ(one.device.read(one.dhidden), other->device.read(other->dhidden));
    EXPECT_EQ(one.device.read(one.args.dhead), other->device.read(other->args.dhead));
  }
}

TEST(CrossEntropyLoss, VocabularyOfQwen) {
  expect_naive({3, 8, 151936, 1e-4, 0.0, 0}, DType::f32);
  expect_naive({1, 8, 151936, 0.0, 30.0, 0}, DType::f32);
}

// Logits of 1e4: the loss is a difference of large numbers, which must not be taken after rounding them.
TEST(CrossEntropyLoss, LargeLogitsStayAccurate) {
  expect_naive({40, 16, 200, 0.0, 0.0, 1, 2500.0}, DType::f64);
  Device device;
  const Tensor head = device.make(DType::f32, {3, 1}, {1.0, 1.0, 0.5}),
               losses = device.zeros(DType::f32, {2});
  CrossEntropy args;
  args.hidden = device.make(DType::f32, {2, 1}, {16384.0, -16384.0});
  args.head = head;
  args.targets = device.make(DType::i32, {2}, {0, 2});
  args.losses = losses;
  args.workspace = device.bytes(device->cross_entropy_workspace(2, 1, 3, DType::f32));
  device->cross_entropy(args);
  EXPECT_NEAR(device.read(losses)[0], std::log(2.0), 1e-7);  // two equal logits, the third vanishes
  EXPECT_EQ(device.read(losses)[1], 0.0);
}

TEST(CrossEntropyLoss, TargetsOutsideTheVocabularyAreRefused) {
  Loss loss({2, 4, 10, 0.0, 0.0, 0}, DType::f32);
  loss.device.write(loss.args.targets, {3, 10});
  EXPECT_THROW(loss.run(), Error);
  loss.device.write(loss.args.targets, {-1, 3});
  EXPECT_THROW(loss.run(), Error);
}

}  // namespace
}  // namespace polar
