// The fused cross-entropy on the CUDA backend against the CPU backend on the same inputs. In bf16 the bounds
// are derived from the rounding of logits, of their gradients and of the result.
#include <limits>

#include "base/error.h"
#include "cuda/both.h"
#include "cuda/orders.h"

namespace polar::cuda::test {
namespace {

constexpr int32_t kIgnore = -100;
constexpr double kFloatUnit = 0x1p-24;

struct Case {
  int64_t rows, cols, vocabulary;
  double z_loss, softcap;
  int ignored_of_8;  // how many of 8 targets are ignored
  double gradient_scale = 0.25;
  std::string text(DType dtype) const {
    return fmt::format("N{} C{} V{} z_loss {} softcap {} ignored {}/8 {}", rows, cols, vocabulary, z_loss,
                       softcap, ignored_of_8, name_of(dtype));
  }
};

// All tensors of a case.
struct Loss {
  Both both;
  Pair hidden, head, targets, losses, lse, dhidden, dhead, workspace;
  Case c;

  Loss(const Case& c_, DType dtype) : c(c_) {
    hidden = both.random(dtype, {c.rows, c.cols}, 1);
    head = both.random(dtype, {c.vocabulary, c.cols}, 3);
    Values ids;
    for (int64_t i = 0; i < c.rows; ++i) {
      const uint64_t bits = random_bits(9, 9, static_cast<uint64_t>(i));
      const bool ignored = static_cast<int>(bits % 8) < c.ignored_of_8;
      ids.push_back(ignored ? kIgnore : static_cast<double>((bits >> 8) % uint64_t(c.vocabulary)));
    }
    if (c.ignored_of_8 == 0) ids.front() = 0.0, ids.back() = double(c.vocabulary - 1);
    targets = both.make(DType::i32, {c.rows}, ids);
    losses = both.random(DType::f32, {c.rows}, 5);
    lse = both.random(DType::f32, {c.rows}, 6);
    dhidden = both.random(dtype, {c.rows, c.cols}, 2);
    dhead = both.random(DType::f32, {c.vocabulary, c.cols}, 4);  // added to
    workspace = both.workspace(both.cpu.cross_entropy_workspace(c.rows, c.cols, c.vocabulary, DType::f32),
                               both.cuda.cross_entropy_workspace(c.rows, c.cols, c.vocabulary, dtype));
  }
  CrossEntropy args(Tensor Pair::*side) const {
    CrossEntropy args;
    args.hidden = hidden.*side;
    args.head = head.*side;
    args.targets = targets.*side;
    args.ignore_index = kIgnore;
    args.z_loss = c.z_loss;
    args.softcap = c.softcap;
    args.gradient_scale = c.gradient_scale;
    args.losses = losses.*side;
    args.lse = lse.*side;
    args.dhidden = dhidden.*side;
    args.dhead = dhead.*side;
    args.workspace = workspace.*side;
    return args;
  }
  static CrossEntropy forward_only(CrossEntropy args) {
    args.dhidden = {};
    args.dhead = {};
    return args;
  }
  Values all_cuda() {
    Values all;
    for (const Pair& x : {losses, lse, dhidden, dhead}) {
      const Values more = both.read_cuda(x);
      all.insert(all.end(), more.begin(), more.end());
    }
    return all;
  }
};

// How far the results in bf16 may be from those of exact logits, by the definition, in double. A logit errs
// by its rounding and by the C terms of its sum; a row's lse by the largest of its logits' errors; a gradient
// by what that changes in its probability (exp(2 error) - 1, relatively), and by its own rounding; sums of
// gradients times weights by the sum of all that.
struct Bounds {
  Values losses, lse, dhidden, dhead;

  explicit Bounds(Loss& loss)
      : dhidden(loss.both.read_cpu(loss.dhidden)), dhead(size_t(loss.dhead.cpu.count())) {
    const Case& c = loss.c;
    const Values hidden = loss.both.read_cpu(loss.hidden), head = loss.both.read_cpu(loss.head);
    const Values targets = loss.both.read_cpu(loss.targets);
    for (double& x : dhidden) x = kBf16Unit * std::abs(x);  // of the result, already computed
    for (int64_t i = 0; i < c.rows; ++i) row(c, size_t(i), hidden, head, targets[size_t(i)]);
  }

 private:
  void row(const Case& c, size_t i, const Values& hidden, const Values& head, double target) {
    const auto width = size_t(c.cols), count = size_t(c.vocabulary), h = i * width;
    Values y(count), slope(count, 1.0);
    double greatest = -std::numeric_limits<double>::infinity(), error = 0.0;
    for (size_t j = 0; j < count; ++j) {
      double terms = 0.0;
      for (size_t e = 0; e < width; ++e) {
        y[j] += hidden[h + e] * head[j * width + e];
        terms += std::abs(hidden[h + e] * head[j * width + e]);
      }
      error = std::max(error, kBf16Unit * std::abs(y[j]) + double(c.cols) * kFloatUnit * terms);
      if (c.softcap > 0.0) {
        y[j] = c.softcap * std::tanh(y[j] / c.softcap);
        slope[j] = 1.0 - y[j] / c.softcap * (y[j] / c.softcap);
      }
      greatest = std::max(greatest, y[j]);
    }
    double sum = 0.0;
    for (const double value : y) sum += std::exp(value - greatest);
    const double log_sum = greatest + std::log(sum);
    error += 64.0 * kFloatUnit * (1.0 + std::abs(log_sum));  // exp, log and sums in float
    losses.push_back(target == kIgnore ? 0.0 : 2.0 * error);
    lse.push_back(error);
    if (target == kIgnore) return;
    for (size_t j = 0; j < count; ++j) {
      const double p = std::exp(y[j] - log_sum), factor = 1.0 + 2.0 * c.z_loss * std::abs(log_sum);
      const double gradient = p * factor + (double(j) == target ? 1.0 : 0.0);  // its absolute value at most
      double wrong = p * (factor * std::expm1(2.0 * error) + 2.0 * c.z_loss * error) * slope[j];
      if (c.softcap > 0.0) wrong += gradient * 2.0 * error / c.softcap;
      wrong = c.gradient_scale * (wrong + (kBf16Unit + 8.0 * kFloatUnit) * gradient);
      for (size_t e = 0; e < width; ++e) {
        dhidden[h + e] += (1.0 + kBf16Unit) * wrong * std::abs(head[j * width + e]);
        dhead[j * width + e] += wrong * std::abs(hidden[h + e]);
      }
    }
  }
};

void expect_within_each(const Values& got, const Values& want, const Values& bounds, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_LE(std::abs(got[i] - want[i]), bounds[i] + 1e-6 * std::abs(want[i]))
        << what << "[" << i << "]: " << got[i] << " for " << want[i];
}

void expect_cpu(const Case& c, DType dtype) {
  SCOPED_TRACE(c.text(dtype));
  Loss loss(c, dtype);
  Both& both = loss.both;
  both.cpu.cross_entropy(loss.args(&Pair::cpu));
  both.cuda.cross_entropy(loss.args(&Pair::cuda));
  if (dtype == DType::f32) {
    for (const auto& [x, what] : {std::pair{loss.losses, "losses"}, std::pair{loss.lse, "lse"},
                                  std::pair{loss.dhidden, "dhidden"}, std::pair{loss.dhead, "dhead"}})
      expect_close(both.read_cuda(x), both.read_cpu(x), 1e-5, what);
    return;
  }
  const Bounds bounds(loss);
  expect_within_each(both.read_cuda(loss.losses), both.read_cpu(loss.losses), bounds.losses, "losses");
  expect_within_each(both.read_cuda(loss.lse), both.read_cpu(loss.lse), bounds.lse, "lse");
  expect_within_each(both.read_cuda(loss.dhidden), both.read_cpu(loss.dhidden), bounds.dhidden, "dhidden");
  expect_within_each(both.read_cuda(loss.dhead), both.read_cpu(loss.dhead), bounds.dhead, "dhead");
}

// One logit, rows without a whole 16-byte piece, whole pieces and a rest, more pieces than threads, both
// sizes of blocks; and chunks of up to 4096 rows: one full one, a row more, two full ones, a row more.
const Case kCases[] = {
    {1, 1, 1, 0.0, 0.0, 0},     {1, 8, 5, 0.0, 0.0, 0},      {7, 24, 33, 0.0, 0.0, 3},
    {5, 16, 104, 1e-2, 0.0, 2}, {9, 16, 130, 0.0, 3.0, 2},   {33, 24, 257, 1e-2, 5.0, 1},
    {130, 8, 40, 1e-3, 0.0, 2}, {3, 32, 5003, 1e-3, 0.0, 0}, {2, 16, 4096, 0.0, 9.0, 0, 1e-6},
    {4096, 8, 9, 1e-3, 0.0, 2}, {4097, 8, 9, 0.0, 3.0, 2},   {8192, 8, 3, 1e-3, 0.0, 2},
    {8193, 8, 3, 0.0, 0.0, 0},
};

TEST(CudaCrossEntropy, AgreesWithTheCpuInFloat) {
  for (const Case& c : kCases) expect_cpu(c, DType::f32);
}

TEST(CudaCrossEntropy, AgreesWithTheCpuInBf16) {
  for (const Case& c : kCases) expect_cpu(c, DType::bf16);
}

TEST(CudaCrossEntropy, VocabularyOfQwen) {
  expect_cpu({2, 8, 151936, 1e-4, 0.0, 0}, DType::f32);
  expect_cpu({2, 8, 151936, 0.0, 30.0, 0}, DType::bf16);
}

TEST(CudaCrossEntropy, ForwardOnlyGivesTheSameBitsAndTouchesNothingElse) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Case c{30, 16, 90, 1e-3, 7.0, 2};
    Loss both(c, dtype), forward(c, dtype);
    const Values dhead = forward.both.read_cuda(forward.dhead);
    both.both.cuda.cross_entropy(both.args(&Pair::cuda));
    forward.both.cuda.cross_entropy(Loss::forward_only(forward.args(&Pair::cuda)));
    EXPECT_EQ(both.both.read_cuda(both.losses), forward.both.read_cuda(forward.losses));
    EXPECT_EQ(both.both.read_cuda(both.lse), forward.both.read_cuda(forward.lse));
    EXPECT_EQ(forward.both.read_cuda(forward.dhead), dhead);
  }
}

TEST(CudaCrossEntropy, FullyIgnoredBatchGivesNothing) {
  const Case c{20, 8, 21, 1e-2, 0.0, 8};
  Loss loss(c, DType::bf16);
  CrossEntropy args = loss.args(&Pair::cuda);
  args.lse = {};
  const Values dhead = loss.both.read_cuda(loss.dhead);
  loss.both.cuda.cross_entropy(args);
  EXPECT_EQ(loss.both.read_cuda(loss.losses), Values(20, 0.0));
  EXPECT_EQ(loss.both.read_cuda(loss.dhidden), Values(20 * 8, 0.0));
  EXPECT_EQ(loss.both.read_cuda(loss.dhead), dhead);
}

TEST(CudaCrossEntropy, BitsDoNotDependOnTheOrderOfThreads) {
  for (const DType dtype : {DType::f32, DType::bf16})
    expect_same_bits_in_every_order("cross_entropy", [dtype] {
      Loss loss({20, 16, 1500, 1e-3, 20.0, 1}, dtype);
      loss.both.cuda.cross_entropy(loss.args(&Pair::cuda));
      return loss.all_cuda();
    });
}

// Logits of 1e4: the loss is a difference of large numbers, which must not be taken after rounding them.
TEST(CudaCrossEntropy, LargeLogitsStayAccurate) {
  Loss loss({2, 1, 3, 0.0, 0.0, 0}, DType::f32);
  loss.both.write(loss.head, {1.0, 1.0, 0.5});
  loss.both.write(loss.hidden, {16384.0, -16384.0});
  loss.both.write(loss.targets, {0, 2});
  loss.both.cuda.cross_entropy(loss.args(&Pair::cuda));
  EXPECT_NEAR(loss.both.read_cuda(loss.losses)[0], std::log(2.0), 1e-7);  // the third vanishes
  EXPECT_EQ(loss.both.read_cuda(loss.losses)[1], 0.0);
}

TEST(CudaCrossEntropy, TargetsOutsideTheVocabularyGiveNaN) {
  Loss loss({3, 4, 10, 0.0, 0.0, 0}, DType::f32);
  loss.both.write(loss.targets, {3, 10, -1});
  loss.both.cuda.cross_entropy(loss.args(&Pair::cuda));
  const Values losses = loss.both.read_cuda(loss.losses);
  EXPECT_TRUE(std::isfinite(losses[0]));
  EXPECT_TRUE(std::isnan(losses[1]));
  EXPECT_TRUE(std::isnan(losses[2]));
}

}  // namespace
}  // namespace polar::cuda::test
