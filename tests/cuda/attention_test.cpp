// Attention on the CUDA backend against the CPU backend in f64, on the same inputs, rounded to the dtype
// under test. In bf16 the bounds are derived element by element from the sums of absolute values of what is
// added.
#include <cmath>
#include <limits>

#include "backend/cpu/cpu_ops.h"
#include "backend/cuda/attention_choice.h"
#include "backend/cuda/cuda_ops.h"
#include "base/error.h"
#include "cuda/orders.h"
#include "ops/device.h"

namespace polar {
namespace {

using testing::Device;
using testing::Values;

constexpr double kBf16Unit = 0x1p-8, kFloatUnit = 0x1p-24;  // the greatest relative error of one rounding
constexpr int64_t kGap = 16;                                // columns behind q|k|v that nothing may touch

struct Case {
  int64_t batch, time, heads_q, heads_kv, head_dim, window;
  int64_t documents;  // their mean length, or, negative, the length of all of them; 0: one document
  double spread = 1.0;
  std::string text() const {
    return fmt::format("B{} T{} Hq{} Hkv{} D{} window {} documents {}", batch, time, heads_q, heads_kv,
                       head_dim, window, documents);
  }
  AttentionShape shape() const {
    return {batch, time, time, heads_q, heads_kv, head_dim, window, 1.0 / std::sqrt(double(head_dim))};
  }
  int64_t rows() const { return batch * time; }
  int64_t width() const { return (heads_q + 2 * heads_kv) * head_dim; }
};

// Documents that begin anywhere: a new one with probability 1 / mean length at every position; or everywhere
// after the same length.
Values document_starts(const Case& c) {
  Values starts;
  for (int64_t b = 0; b < c.batch; ++b) {
    int64_t start = 0;
    for (int64_t t = 0; t < c.time; ++t) {
      const uint64_t bits = random_bits(5, static_cast<uint64_t>(b), static_cast<uint64_t>(t));
      if (c.documents > 0 ? bits % static_cast<uint64_t>(c.documents) == 0
                          : c.documents < 0 && t % -c.documents == 0)
        start = t;
      starts.push_back(static_cast<double>(start));
    }
  }
  return starts;
}

// What both backends get. The backward pass gets the CPU's output and lse, rounded: it is tested by itself.
struct Inputs {
  Case c;
  Values qkv, starts, doutput, output, lse;

  Inputs(const Case& c_, DType dtype) : c(c_), starts(document_starts(c_)) {
    const int64_t stride = c.width() + kGap;
    qkv = testing::rounded(dtype, testing::random_values(c.rows() * stride, 1, c.spread));
    doutput = testing::rounded(dtype, testing::random_values(c.rows() * c.heads_q * c.head_dim, 2));
  }
};

// The tensors of a case on one device: activations in `dtype`, lse in `lse_dtype`.
struct Attention {
  const Case c;
  Device& device;
  DType dtype;
  AttentionShape shape;
  Tensor qkv, dqkv, starts, output, doutput, lse, workspace;

  Attention(Device& device_, const Inputs& inputs, DType dtype_, DType lse_dtype)
      : c(inputs.c), device(device_), dtype(dtype_), shape(c.shape()) {
    const Shape projected{c.rows(), c.width() + kGap}, heads{c.rows(), c.heads_q * c.head_dim};
    qkv = device.make(dtype, projected, inputs.qkv);
    dqkv = device.make(dtype, projected, Values(static_cast<size_t>(projected.count()), 7.0));
    if (c.documents != 0) starts = device.make(DType::i32, {c.batch, c.time}, inputs.starts);
    output = device.zeros(dtype, heads);
    doutput = device.make(dtype, heads, inputs.doutput);
    lse = device.zeros(lse_dtype, {c.batch, c.heads_q, c.time});
    workspace = device.bytes(device->attention_workspace(shape, dtype));
  }
  MatrixView q(const Tensor& x) const { return MatrixView(x).columns(0, c.heads_q * c.head_dim); }
  MatrixView k(const Tensor& x) const {
    return MatrixView(x).columns(c.heads_q * c.head_dim, c.heads_kv * c.head_dim);
  }
  MatrixView v(const Tensor& x) const {
    return MatrixView(x).columns((c.heads_q + c.heads_kv) * c.head_dim, c.heads_kv * c.head_dim);
  }
  void forward() {
    device->attention_forward({shape, q(qkv), k(qkv), v(qkv), starts, output, lse, workspace});
  }
  void backward() {
    device->attention_backward(
        {shape, q(qkv), k(qkv), v(qkv), starts, output, doutput, lse, q(dqkv), k(dqkv), v(dqkv), workspace});
  }
};

Device cpu() {
  return Device(std::make_unique<cpu::CpuOps>(1));
}
Device cuda_device(const std::string& engine = "native") {
  return Device(std::make_unique<cuda::CudaOps>(0, "", cuda::AttentionSettings{engine, ""}));
}

// What a result is the sum of, in double, by the definition: for every element the sums of the absolute
// values of its terms. An error of u in each term adds up to u times that at most.
struct Magnitudes {
  struct Sums {
    Values rounded;   // terms with a factor that is rounded to bf16 before the product: P or dS
    Values computed;  // what their float arithmetic adds and subtracts to get there
    explicit Sums(size_t count) : rounded(count), computed(count) {}
    void add(size_t i, double term, double term_computed) {
      rounded[i] += std::abs(term);
      computed[i] += std::abs(term_computed);
    }
  };
  Sums output, dqkv;
  double largest_score = 0.0;  // the sum of the absolute values of its terms

  explicit Magnitudes(const Inputs& in) : output(in.output.size()), dqkv(in.qkv.size()) {
    for (int64_t b = 0; b < in.c.batch; ++b)
      for (int64_t h = 0; h < in.c.heads_q; ++h)
        for (int64_t i = 0; i < in.c.time; ++i) query(in, b, h, i);
  }

 private:
  void query(const Inputs& in, int64_t b, int64_t h, int64_t i) {
    const Case& c = in.c;
    const auto width = static_cast<size_t>(c.head_dim);
    const int64_t h_kv = h / (c.heads_q / c.heads_kv);
    const auto at = [&](int64_t t, int64_t head) {
      return size_t((b * c.time + t) * (c.width() + kGap) + head * c.head_dim);
    };
    const size_t q = at(i, h), o = size_t(((b * c.time + i) * c.heads_q + h) * c.head_dim);
    const double scale = c.shape().scale, lse = in.lse[size_t((b * c.heads_q + h) * c.time + i)];
    int64_t first = c.documents != 0 ? int64_t(in.starts[size_t(b * c.time + i)]) : 0;
    if (c.window > 0) first = std::max(first, i - c.window + 1);
    for (int64_t j = first; j <= i; ++j) {
      const size_t k = at(j, c.heads_q + h_kv), v = at(j, c.heads_q + c.heads_kv + h_kv);
      double score = 0.0, score_terms = 0.0, difference = 0.0, difference_terms = 0.0;  // dP - delta
      for (size_t e = 0; e < width; ++e) {
        score += scale * in.qkv[q + e] * in.qkv[k + e];
        score_terms += scale * std::abs(in.qkv[q + e] * in.qkv[k + e]);
        const double dp = in.doutput[o + e] * in.qkv[v + e], delta = in.doutput[o + e] * in.output[o + e];
        difference += dp - delta;
        difference_terms += std::abs(dp) + std::abs(delta);
      }
      largest_score = std::max(largest_score, score_terms);
      const double p = std::exp(score - lse), ds = scale * p * difference,
                   ds_terms = scale * p * difference_terms;
      for (size_t e = 0; e < width; ++e) {
        output.add(o + e, p * in.qkv[v + e], p * in.qkv[v + e]);
        dqkv.add(v + e, p * in.doutput[o + e], p * in.doutput[o + e]);
        dqkv.add(k + e, ds * in.qkv[q + e], ds_terms * in.qkv[q + e]);
        dqkv.add(q + e, ds * in.qkv[k + e], ds_terms * in.qkv[k + e]);
      }
    }
  }
};

// In bf16 a probability (or dS) is rounded before it is multiplied, and the result when it is written. What
// is computed in float adds its own: dot products of D terms, whose error in a score is a relative one of the
// probability, and sums of up to T * group terms.
// `sums_rounded`: how often a sum of such terms is rounded on the way. `results`: 2 where `want` is another
// such result, as far from the exact one.
void expect_within_bf16(const Values& got, const Values& want, const Magnitudes::Sums& sums, const Case& c,
                        double largest_score, const char* what, int sums_rounded = 0, int results = 1) {
  const double terms = double(2 * c.head_dim + c.time * (c.heads_q / c.heads_kv) + 16);
  const double in_float = terms * kFloatUnit * (1.0 + largest_score);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    const double before = (1 + sums_rounded) * kBf16Unit * sums.rounded[i] + in_float * sums.computed[i];
    const double bound = results * (before + kBf16Unit * (std::abs(want[i]) + results * before));
    ASSERT_LE(std::abs(got[i] - want[i]), bound) << what << "[" << i << "]: " << got[i] << " for " << want[i];
  }
}

void expect_cpu(const Case& c, DType dtype, const std::string& engine = "native") {
  SCOPED_TRACE(c.text() + " " + std::string(name_of(dtype)) + " " + engine);
  Device reference = cpu(), device = cuda_device(engine);
  Inputs inputs(c, dtype);
  Attention want(reference, inputs, DType::f64, DType::f64), got(device, inputs, dtype, DType::f32);
  want.forward();
  got.forward();
  const Values output = reference.read(want.output), lse = reference.read(want.lse);
  testing::expect_close(device.read(got.lse), lse, 1e-5, "lse");
  if (dtype == DType::f32) testing::expect_close(device.read(got.output), output, 1e-5, "output");

  inputs.output = testing::rounded(dtype, output);
  inputs.lse = testing::rounded(DType::f32, lse);
  for (Attention* a : {&want, &got}) {
    a->device.write(a->lse, inputs.lse);
    if (a == &want) a->device.write(a->output, inputs.output);
  }
  Magnitudes magnitudes(inputs);
  if (dtype == DType::bf16)
    expect_within_bf16(device.read(got.output), output, magnitudes.output, c, magnitudes.largest_score,
                       "output");
  device.write(got.output, inputs.output);
  want.backward();
  got.backward();
  const Values gradients = device.read(got.dqkv);
  if (dtype == DType::f32)
    testing::expect_close(gradients, reference.read(want.dqkv), 1e-5, "dq|dk|dv");
  else
    // cuDNN keeps dk and dv of every query head in bf16 before it adds those of a group.
    expect_within_bf16(gradients, reference.read(want.dqkv), magnitudes.dqkv, c, magnitudes.largest_score,
                       "dq|dk|dv", engine == "cudnn" && c.heads_q != c.heads_kv ? 1 : 0);
  for (int64_t i = 0; i < c.rows(); ++i)
    for (int64_t j = 0; j < kGap; ++j)
      ASSERT_EQ(gradients[size_t(i * (c.width() + kGap) + c.width() + j)], 7.0) << "behind q|k|v";
}

// One and several tiles of queries and keys, ragged ones, groups of 1, 2, 3 and 7 heads, all head widths.
const Case kCases[] = {
    {1, 1, 1, 1, 32, 0, 0},    {2, 17, 2, 1, 64, 0, 0},     {1, 64, 1, 1, 96, 0, 0},
    {1, 129, 2, 1, 128, 0, 0}, {2, 130, 3, 1, 64, 0, 0},    {1, 200, 2, 2, 32, 0, 0},
    {1, 131, 7, 1, 32, 0, 16}, {2, 190, 2, 1, 64, 0, 16},   {1, 140, 3, 3, 96, 40, 0},
    {1, 257, 2, 1, 64, 1, 0},  {1, 193, 2, 2, 128, 70, 16}, {1, 300, 1, 1, 32, 100, 16},
};

// For what is Hopper's own: groups and windows that go several times around its rings of tiles, keys that one
// warpgroup of a block sees and the other does not, tiles of queries that none of them sees.
const Case kHopperCases[] = {
    {1, 260, 4, 2, 128, 0, 0},   {1, 193, 3, 1, 64, 33, 50},   {2, 330, 2, 1, 128, 100, 80},
    {1, 660, 1, 1, 64, 0, -330}, {1, 660, 1, 1, 128, 0, -330}, {1, 385, 1, 1, 128, 65, 0},
};

void expect_cpu_in_all_cases(DType dtype) {
  constexpr int64_t kSmall = 260;  // rows of heads; what is longer is left out where every access is watched
  for (const Case& c : kCases)
    if (!cuda::test::every_access_is_watched() || c.rows() * c.heads_q <= kSmall) expect_cpu(c, dtype);
}

TEST(CudaAttention, AgreesWithTheCpuInFloat) {
  expect_cpu_in_all_cases(DType::f32);
}

TEST(CudaAttention, AgreesWithTheCpuInBf16) {
  cuda::test::on_every_kind_of_device([] { expect_cpu_in_all_cases(DType::bf16); });
}

TEST(CudaAttention, AgreesWithTheCpuAroundTheRingsInBf16) {
  for (const Case& c : kHopperCases) expect_cpu(c, DType::bf16);
}

void expect_decoding() {
  for (const Case& c : {Case{2, 150, 3, 1, 32, 0, 0}, Case{1, 150, 4, 2, 64, 20, 16}})
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const int64_t last : {1, 7, 70}) {
        SCOPED_TRACE(fmt::format("{} {} last {}", c.text(), name_of(dtype), last));
        Device device = cuda_device();
        Inputs inputs(c, dtype);
        Attention a(device, inputs, dtype, DType::f32);
        a.forward();
        const Values all = device.read(a.output), all_lse = device.read(a.lse);
        const int64_t first = c.time - last, width = c.heads_q * c.head_dim, stride = c.width() + kGap;
        inputs.output = all;
        inputs.lse = all_lse;
        const Magnitudes magnitudes(inputs);
        Magnitudes::Sums sums(0);  // of the rows below
        Values queries, starts, want, want_lse;
        for (int64_t b = 0; b < c.batch; ++b) {
          const int64_t row = b * c.time + first, end = (b + 1) * c.time;
          queries.insert(queries.end(), inputs.qkv.begin() + row * stride, inputs.qkv.begin() + end * stride);
          starts.insert(starts.end(), inputs.starts.begin() + row, inputs.starts.begin() + end);
          want.insert(want.end(), all.begin() + row * width, all.begin() + end * width);
          for (const auto& [to, from] : {std::pair{&sums.rounded, &magnitudes.output.rounded},
                                         {&sums.computed, &magnitudes.output.computed}})
            to->insert(to->end(), from->begin() + row * width, from->begin() + end * width);
          for (int64_t h = 0; h < c.heads_q; ++h) {
            const auto of_head = all_lse.begin() + (b * c.heads_q + h) * c.time;
            want_lse.insert(want_lse.end(), of_head + first, of_head + c.time);
          }
        }
        AttentionShape shape = c.shape();
        shape.query_time = last;
        const Tensor q = device.make(dtype, {c.batch * last, stride}, queries);
        const Tensor documents =
            c.documents != 0 ? device.make(DType::i32, {c.batch, last}, starts) : Tensor{};
        const Tensor output = device.zeros(dtype, {c.batch * last, width});
        const Tensor lse = device.zeros(DType::f32, {c.batch, c.heads_q, last});
        device->attention_forward({shape, a.q(q), a.k(a.qkv), a.v(a.qkv), documents, output, lse, {}});
        // Rows lie in other tiles: the order of their sums may differ.
        if (dtype == DType::f32)
          testing::expect_close(device.read(output), want, 1e-6, "output");
        else
          expect_within_bf16(device.read(output), want, sums, c, magnitudes.largest_score, "output", 0, 2);
        testing::expect_close(device.read(lse), want_lse, 1e-6, "lse");
        const Values before = device.read(output);
        device->attention_forward({shape, a.q(q), a.k(a.qkv), a.v(a.qkv), documents, output, {}, {}});
        EXPECT_EQ(device.read(output), before) << "without lse";
      }
}

TEST(CudaAttention, DecodingGivesTheLastRowsOfTheWholeSequence) {
  cuda::test::on_every_kind_of_device(expect_decoding);
}

void expect_same_bits(DType dtype) {
  for (const Case& c :
       {Case{2, 130, 3, 1, 32, 0, 16}, Case{1, 140, 2, 2, 64, 30, 0}, Case{1, 150, 2, 1, 128, 0, 50}}) {
    const Inputs inputs(c, dtype);
    cuda::test::expect_same_bits_in_every_order(c.text(), [&] {
      Device device = cuda_device();
      Attention a(device, inputs, dtype, DType::f32);
      a.forward();
      a.backward();
      Values all = device.read(a.output);
      for (const Tensor& x : {a.lse, a.dqkv}) {
        const Values more = device.read(x);
        all.insert(all.end(), more.begin(), more.end());
      }
      return all;
    });
  }
}

TEST(CudaAttention, BitsDoNotDependOnTheOrderOfThreads) {
  expect_same_bits(DType::f32);
  cuda::test::on_every_kind_of_device([] { expect_same_bits(DType::bf16); });
}

// Scores of thousands: the softmax is a choice of one key, nothing overflows.
TEST(CudaAttention, LargeScoresStayFinite) {
  for (const auto& [dtype, head_dim] :
       {std::pair{DType::f32, 32}, {DType::bf16, 32}, {DType::bf16, 64}, {DType::bf16, 128}}) {
    const Case c{1, 130, 2, 1, head_dim, 0, 0, 50.0};
    Device device = cuda_device();
    const Inputs inputs(c, dtype);
    Attention a(device, inputs, dtype, DType::f32);
    a.forward();
    a.backward();
    for (const Tensor& x : {a.output, a.lse, a.dqkv})
      for (const double value : device.read(x)) ASSERT_TRUE(std::isfinite(value));
  }
}

// What cuDNN refuses here (the log says why) is native, and agrees as well; most of it must be cuDNN's.
TEST(CudaAttention, CudnnAgreesWithTheCpuAndGivesTheSameBits) {
  std::string problem;
  if (cuda::make_cudnn_attention(problem) == nullptr) GTEST_SKIP() << problem;
  for (const Case& c : kCases) expect_cpu(c, DType::bf16, "cudnn");
  for (const Case& c : {Case{2, 130, 3, 1, 64, 0, false}, Case{1, 1024, 14, 2, 64, 0, false}}) {
    const Inputs inputs(c, DType::bf16);
    int passes = 0;
    cuda::test::expect_same_bits_in_every_order(c.text(), [&] {
      auto owned = std::make_unique<cuda::CudaOps>(0, "", cuda::AttentionSettings{"cudnn", ""});
      const cuda::AttentionChoice* choice = owned->attention();
      Device device(std::move(owned));
      Attention a(device, inputs, DType::bf16, DType::f32);
      a.forward();
      a.backward();
      for (const auto& [done, by_cudnn] : choice->chosen()) passes += by_cudnn ? 1 : 0;
      Values all = device.read(a.output);
      for (const Tensor& x : {a.lse, a.dqkv}) {
        const Values more = device.read(x);
        all.insert(all.end(), more.begin(), more.end());
      }
      return all;
    });
    EXPECT_EQ(passes, 8) << "cuDNN did not do forward and backward of " << c.text();
  }
}

// What is measured, is one of the two: the result is that of an engine named.
TEST(CudaAttention, AutoChoosesBetweenCudnnAndNative) {
  std::string problem;
  if (cuda::make_cudnn_attention(problem) == nullptr) GTEST_SKIP() << problem;
  const Case c{4, 1024, 14, 2, 64, 0, false};
  const Inputs inputs(c, DType::bf16);
  const auto run = [&](const std::string& engine, Values& out, Values& gradients) {
    auto owned = std::make_unique<cuda::CudaOps>(0, "", cuda::AttentionSettings{engine, ""});
    const cuda::AttentionChoice* choice = owned->attention();
    Device device(std::move(owned));
    Attention a(device, inputs, DType::bf16, DType::f32);
    a.forward();
    a.backward();
    out = device.read(a.output);
    gradients = device.read(a.dqkv);
    return choice->measured();
  };
  Values native[2], cudnn[2], chosen[2];
  EXPECT_EQ(run("native", native[0], native[1]), 0);
  EXPECT_EQ(run("cudnn", cudnn[0], cudnn[1]), 0);
  EXPECT_EQ(run("auto", chosen[0], chosen[1]), 2);
  EXPECT_TRUE(chosen[0] == native[0] || chosen[0] == cudnn[0]);
}

TEST(CudaAttention, ViolatedContractsAreRefused) {
  Device device = cuda_device();
  const Case c{1, 8, 3, 1, 32, 0, 0};
  const Inputs inputs(c, DType::f32);
  Attention a(device, inputs, DType::f32, DType::f32);
  a.shape.heads_kv = 2;
  EXPECT_THROW(a.forward(), Error);
  a.shape = c.shape();
  a.workspace = {};
  EXPECT_THROW(a.backward(), Error);
  const Case odd{1, 8, 1, 1, 48, 0, 0};
  const Inputs odd_inputs(odd, DType::f32);
  Attention b(device, odd_inputs, DType::f32, DType::f32);
  EXPECT_THROW(b.forward(), Error);
}

}  // namespace
}  // namespace polar
