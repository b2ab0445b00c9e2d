// Attention against a naive T x T computation in double and against central differences.
#include <limits>

#include "base/error.h"
#include "ops/device.h"

namespace polar {
namespace {

using testing::Device;
using testing::Values;

struct Case {
  int64_t batch, time, heads_q, heads_kv, head_dim, window;
  bool documents;
  std::string text() const {
    return fmt::format("B{} T{} Hq{} Hkv{} D{} window {} documents {}", batch, time, heads_q, heads_kv,
                       head_dim, window, documents);
  }
  AttentionShape shape() const {
    return {batch, time, time, heads_q, heads_kv, head_dim, window, 1.0 / std::sqrt(double(head_dim))};
  }
};

// Documents that begin anywhere: a new one with probability 1/8 at every position.
Values document_starts(int64_t batch, int64_t time) {
  Values starts;
  for (int64_t b = 0; b < batch; ++b) {
    int64_t start = 0;
    for (int64_t t = 0; t < time; ++t) {
      if (random_bits(5, static_cast<uint64_t>(b), static_cast<uint64_t>(t)) % 8 == 0) start = t;
      starts.push_back(static_cast<double>(start));
    }
  }
  return starts;
}

// All tensors of a case; q, k and v lie side by side as the fused projection leaves them, and so do dq, dk,
// dv.
struct Attention {
  Device device;
  AttentionShape shape;
  Tensor qkv, dqkv, starts, output, doutput, lse, workspace;

  Attention(const Case& c, DType dtype, int threads = 2, double spread = 1.0)
      : device(threads), shape(c.shape()) {
    const int64_t rows = c.batch * c.time, width = (c.heads_q + 2 * c.heads_kv) * c.head_dim;
    qkv = device.random(dtype, {rows, width}, 1, spread);
    dqkv = device.random(dtype, {rows, width}, 4);  // overwritten
    if (c.documents) starts = device.make(DType::i32, {c.batch, c.time}, document_starts(c.batch, c.time));
    output = device.random(dtype, {rows, c.heads_q * c.head_dim}, 2);  // overwritten
    doutput = device.random(dtype, {rows, c.heads_q * c.head_dim}, 3);
    lse = device.zeros(dtype, {c.batch, c.heads_q, c.time});
    workspace = device.bytes(device->attention_workspace(shape, dtype));
  }
  MatrixView q(const Tensor& x) const { return MatrixView(x).columns(0, shape.heads_q * shape.head_dim); }
  MatrixView k(const Tensor& x) const {
    return MatrixView(x).columns(shape.heads_q * shape.head_dim, shape.heads_kv * shape.head_dim);
  }
  MatrixView v(const Tensor& x) const {
    return MatrixView(x).columns((shape.heads_q + shape.heads_kv) * shape.head_dim,
                                 shape.heads_kv * shape.head_dim);
  }
  void forward() {
    device->attention_forward({shape, q(qkv), k(qkv), v(qkv), starts, output, lse, workspace});
  }
  void backward() {
    device->attention_backward(
        {shape, q(qkv), k(qkv), v(qkv), starts, output, doutput, lse, q(dqkv), k(dqkv), v(dqkv), workspace});
  }
};

// The definition, in double, with whole rows of scores.
struct Naive {
  Values output, lse, dqkv;

  Naive(const Attention& a, const Case& c)
      : output(static_cast<size_t>(a.output.count())),
        lse(static_cast<size_t>(a.lse.count())),
        dqkv(static_cast<size_t>(a.qkv.count())) {
    const Values qkv = a.device.read(a.qkv), doutput = a.device.read(a.doutput);
    const Values starts = c.documents ? a.device.read(a.starts) : Values(size_t(c.batch * c.time));
    for (int64_t b = 0; b < c.batch; ++b)
      for (int64_t h = 0; h < c.heads_q; ++h)
        for (int64_t i = 0; i < c.time; ++i) query(a, c, qkv, doutput, starts, b, h, i);
  }

 private:
  void query(const Attention& a, const Case& c, const Values& qkv, const Values& doutput,
             const Values& starts, int64_t b, int64_t h, int64_t i) {
    const int64_t d = c.head_dim, width = (c.heads_q + 2 * c.heads_kv) * d,
                  h_kv = h / (c.heads_q / c.heads_kv);
    const auto row = [&](int64_t t) { return size_t((b * c.time + t) * width); };
    const size_t q_at = row(i) + size_t(h * d), k_at = size_t((c.heads_q + h_kv) * d);
    const size_t v_at = size_t((c.heads_q + c.heads_kv + h_kv) * d);
    const size_t o_at = size_t((b * c.time + i) * c.heads_q * d + h * d);
    const auto sees = [&](int64_t j) {
      return j <= i && double(j) >= starts[size_t(b * c.time + i)] && (c.window == 0 || j > i - c.window);
    };
    const size_t n = size_t(d);
    Values p(size_t(i + 1), 0.0);
    double greatest = -std::numeric_limits<double>::infinity(), sum = 0.0, delta = 0.0;
    for (int64_t j = 0; j <= i; ++j) {
      for (size_t e = 0; e < n; ++e) p[size_t(j)] += qkv[q_at + e] * qkv[row(j) + k_at + e] * a.shape.scale;
      if (sees(j)) greatest = std::max(greatest, p[size_t(j)]);
    }
    for (int64_t j = 0; j <= i; ++j) sum += p[size_t(j)] = sees(j) ? std::exp(p[size_t(j)] - greatest) : 0.0;
    lse[size_t((b * c.heads_q + h) * c.time + i)] = greatest + std::log(sum);
    for (int64_t j = 0; j <= i; ++j)
      for (size_t e = 0; e < n; ++e) output[o_at + e] += p[size_t(j)] / sum * qkv[row(j) + v_at + e];
    for (size_t e = 0; e < n; ++e) delta += doutput[o_at + e] * output[o_at + e];
    for (int64_t j = 0; j <= i; ++j) {
      double dp = 0.0;
      for (size_t e = 0; e < n; ++e) dp += doutput[o_at + e] * qkv[row(j) + v_at + e];
      const double ds = a.shape.scale * p[size_t(j)] / sum * (dp - delta);
      for (size_t e = 0; e < n; ++e) {
        dqkv[row(j) + v_at + e] += p[size_t(j)] / sum * doutput[o_at + e];
        dqkv[row(j) + k_at + e] += ds * qkv[q_at + e];
        dqkv[q_at + e] += ds * qkv[row(j) + k_at + e];
      }
    }
  }
};

// Dot products of D, T and heads * T terms stand behind a gradient: their first-order bounds, added.
double tolerance(DType dtype, const Case& c) {
  const auto terms = static_cast<double>(c.head_dim + 2 * c.time * (c.heads_q / c.heads_kv) + 16);
  return terms * (dtype == DType::f32 ? 0x1p-24 : 0x1p-53);
}

void expect_naive(const Case& c, DType dtype) {
  SCOPED_TRACE(c.text());
  Attention a(c, dtype);
  a.forward();
  a.backward();
  const Naive want(a, c);
  testing::expect_close(a.device.read(a.output), want.output, tolerance(dtype, c), "output");
  testing::expect_close(a.device.read(a.lse), want.lse, tolerance(dtype, c), "lse");
  testing::expect_close(a.device.read(a.dqkv), want.dqkv, tolerance(dtype, c), "dq|dk|dv");
}

const Case kCases[] = {
    {1, 1, 1, 1, 32, 0, false},    {2, 7, 3, 1, 64, 0, false},    {2, 33, 7, 1, 96, 0, false},
    {1, 130, 3, 3, 128, 0, false}, {2, 130, 6, 2, 32, 0, false},  {1, 130, 7, 1, 20, 0, false},
    {1, 33, 2, 2, 5, 0, false},    {1, 130, 2, 1, 48, 0, false},  {1, 130, 1, 1, 32, 1, false},
    {1, 130, 3, 1, 64, 5, false},  {2, 33, 3, 3, 32, 500, false}, {3, 130, 3, 1, 32, 0, true},
    {2, 130, 2, 2, 20, 40, true},  {1, 300, 2, 1, 64, 70, true},  {1, 7, 1, 1, 256, 0, true},
};

TEST(Attention, AgreesWithTheDefinitionInDouble) {
  for (const Case& c : kCases) expect_naive(c, DType::f64);
}

TEST(Attention, AgreesWithTheDefinitionInFloat) {
  for (const Case& c : kCases) expect_naive(c, DType::f32);
}

// With many kv heads a task is a whole group of q heads, and no workspace is needed.
TEST(Attention, GroupsOfHeadsInOneTaskGiveTheSameGradients) {
  const Case many{32, 40, 3, 1, 32, 0, true}, few{2, 40, 3, 1, 32, 0, true};
  Device device;
  EXPECT_EQ(device->attention_workspace(many.shape(), DType::f32), 0u);
  EXPECT_GT(device->attention_workspace(few.shape(), DType::f32), 0u);
  expect_naive(many, DType::f32);
  expect_naive(few, DType::f32);
}

TEST(Attention, GradientsAgreeWithCentralDifferences) {
  const Case cases[] = {{1, 1, 1, 1, 32, 0, false},  {2, 7, 3, 1, 32, 0, true},
                        {1, 33, 7, 1, 20, 5, false}, {1, 130, 3, 1, 32, 0, true},
                        {1, 33, 1, 1, 96, 1, true},  {1, 70, 2, 2, 64, 100, false}};
  for (const Case& c : cases) {
    SCOPED_TRACE(c.text());
    Attention a(c, DType::f64);
    a.forward();
    a.backward();
    const Values weights = a.device.read(a.doutput);
    const auto loss = [&] {
      a.forward();
      return testing::dot(weights, a.device.read(a.output));
    };
    testing::expect_gradient(a.device, a.qkv, a.device.read(a.dqkv), loss, "dq|dk|dv");
  }
}

// The last queries of a sequence alone, as decoding with a cache asks for them.
TEST(Attention, DecodingGivesTheLastRowsOfTheWholeSequence) {
  for (const Case& c : {Case{1, 130, 3, 1, 32, 0, false}, Case{1, 130, 6, 2, 64, 20, true}}) {
    for (const int64_t last : {1, 7, 66}) {
      Attention a(c, DType::f64);
      a.forward();
      const Values all = a.device.read(a.output), all_lse = a.device.read(a.lse);
      AttentionShape shape = c.shape();
      shape.query_time = last;
      const int64_t first = c.time - last, width = c.heads_q * c.head_dim;
      MatrixView q = a.q(a.qkv);
      q = {static_cast<double*>(q.data) + first * q.stride, q.dtype, last, q.cols, q.stride};
      const Tensor starts = c.documents ? a.starts.slice(first, {1, last}) : Tensor{};
      const Tensor output = a.device.zeros(DType::f64, {last, width});
      const Tensor lse = a.device.zeros(DType::f64, {1, c.heads_q, last});
      const Tensor workspace = a.device.bytes(a.device->attention_workspace(shape, DType::f64));
      a.device->attention_forward({shape, q, a.k(a.qkv), a.v(a.qkv), starts, output, lse, workspace});
      const Values want(all.end() - last * width, all.end());
      testing::expect_close(a.device.read(output), want, 1e-14, "output");
      for (int64_t h = 0; h < c.heads_q; ++h)
        EXPECT_NEAR(a.device.read(lse)[size_t(h * last)], all_lse[size_t(h * c.time + first)], 1e-13);
      a.device->attention_forward({shape, q, a.k(a.qkv), a.v(a.qkv), starts, output, {}, workspace});
      testing::expect_close(a.device.read(output), want, 1e-14, "output without lse");
    }
  }
}

TEST(Attention, BitsDoNotDependOnTheNumberOfThreads) {
  for (const Case& c : {Case{2, 130, 6, 2, 32, 0, true}, Case{1, 200, 3, 1, 20, 30, false},
                        Case{32, 33, 2, 1, 64, 0, false}}) {
    SCOPED_TRACE(c.text());
    Attention one(c, DType::f32, 1), two(c, DType::f32, 2), three(c, DType::f32, 3);
    for (Attention* a : {&one, &two, &three}) {
      a->forward();
      a->backward();
    }
    for (const Attention* other : {&two, &three}) {
      EXPECT_EQ(one.device.read(one.output), other->device.read(other->output));
      EXPECT_EQ(one.device.read(one.lse), other->device.read(other->lse));
      EXPECT_EQ(one.device.read(one.dqkv), other->device.read(other->dqkv));
    }
  }
}

// Scores of thousands: the softmax is a choice of one key, nothing overflows.
TEST(Attention, LargeScoresStayFinite) {
  const Case c{1, 130, 2, 1, 32, 0, false};
  Attention a(c, DType::f64, 2, 50.0);
  a.forward();
  a.backward();
  const Naive want(a, c);
  // A score of 1e4 carries an absolute error of 1e4 eps D, which is the relative error of its probability.
  testing::expect_close(a.device.read(a.output), want.output, 1e-10, "output");
  testing::expect_close(a.device.read(a.dqkv), want.dqkv, 1e-10, "dq|dk|dv");
  Attention single(c, DType::f32, 2, 50.0);
  single.forward();
  single.backward();
  for (const double value : single.device.read(single.dqkv)) ASSERT_TRUE(std::isfinite(value));
}

TEST(Attention, ViolatedContractsAreRefused) {
  const Case c{1, 8, 3, 1, 32, 0, false};
  Attention a(c, DType::f32);
  a.shape.heads_kv = 2;
  EXPECT_THROW(a.forward(), Error);
  a.shape = c.shape();
  a.workspace = {};
  EXPECT_THROW(a.backward(), Error);
}

}  // namespace
}  // namespace polar
