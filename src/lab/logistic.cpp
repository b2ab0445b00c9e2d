// f(X) = sum softplus(-C .* (A X B)), with mini-batches of rows of A and C.
//
// f* cannot be written down, so it is found: X <- X - 4 (A^T A)^{-1} G (B B^T)^{-1} with the whole gradient G
// in fp64. The Hessian is at most 1/4 of that of ||A X B||^2 / 2, since softplus'' <= 1/4, so this is the
// minimum of an upper bound of f (Boehning, Lindsay 1988): f falls in every step, and here, where all
// softplus'' are close to 1/4, by a factor of several. It ends when a step promises less than the rounding of
// f, or, where labels can be separated and there is no minimum, after some hundred steps.
#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "lab/draw.h"
#include "lab/host_matrix.h"
#include "lab/problem.h"
#include "ops/memory.h"

namespace polar::lab {
namespace {

constexpr uint64_t kStreamA = 11, kStreamB = 12, kStreamC = 13, kStreamX = 14, kStreamRows = 15;
constexpr double kLabelThreshold = 0.5;
constexpr int kMostSteps = 300;

// softplus(-z) and its derivative by z, without overflow.
double softplus_of_negative(double z) {
  return std::max(-z, 0.0) + std::log1p(std::exp(-std::abs(z)));
}
template <typename T>
T slope_of_negative(T z) {
  const T e = std::exp(-std::abs(z));
  return z >= T{0} ? -e / (T{1} + e) : T{-1} / (T{1} + e);
}

class Logistic final : public Problem {
 public:
  Logistic(Ops& ops, const LogisticSizes& sizes, uint64_t seed, Generator generator)
      : Logistic(ops, sizes, *make_draw(generator, seed), make_draw(generator, seed)) {}

  const ParameterRegistry& registry() const override { return registry_; }

  std::vector<float> start() const override { return flat_of(registry_, {start_}); }

  void gradient(const Tensor& parameters, const Tensor& gradients, int64_t step) override {
    const std::vector<int32_t> rows = rows_of(step);
    const Tensor batch = at(batch_), ax = at(ax_), slopes = at(slopes_);
    const Shape x{sizes_.m, sizes_.n};
    ops_.upload(at(rows_), rows.data());
    ops_.embedding_forward(at(rows_), at(device_a_), batch);
    ops_.gemm(Transpose::no, Transpose::no, 1.0, batch, parameters.slice(0, x), 0.0, ax);
    ops_.gemm(Transpose::no, Transpose::no, 1.0, ax, at(device_b_), 0.0, slopes);
    on_host(ops_, slopes, [&](float* values) { take_slopes(values, rows); });
    ops_.gemm(Transpose::no, Transpose::yes, 1.0, slopes, at(device_b_), 0.0, ax);
    ops_.gemm(Transpose::yes, Transpose::no, 1.0, batch, ax, 0.0, gradients.slice(0, x));
  }

  const std::vector<Quantity>& quantities() const override {
    static const std::vector<Quantity> kAll{
        {"gap", "f(X) - f*"},
        {"gradient_condition", "condition number of the whole gradient"},
        {"gradient_nuclear_norm", "nuclear norm of the whole gradient"},
    };
    return kAll;
  }
  std::vector<double> measure(const std::vector<float>& parameters) const override {
    const Evaluation whole = evaluate(matrix_of(registry_, 0, parameters));
    const std::vector<double> values = math_.singular_values(whole.gradient);
    return {whole.value - minimum_, condition_of(values), sum_of(values)};
  }
  double minimum() const override { return minimum_; }
  std::string minimum_by() const override { return minimum_by_; }
  bool reference_step(const Tensor&, double) override { return false; }

 private:
  // `draw` and `start` are seeded alike. Members stand in the order in which they are drawn.
  Logistic(Ops& ops, const LogisticSizes& sizes, Draw& draw, std::unique_ptr<Draw> start)
      : ops_(ops),
        sizes_(sizes),
        after_start_(std::move(start)),
        start_(after_start_->uniform(sizes.m, sizes.n, kStreamX)),
        a_(draw.normal(sizes.rows, sizes.m, kStreamA)),
        b_(draw.normal(sizes.n, sizes.q, kStreamB)) {
    if (sizes.rows < sizes.m || sizes.q < sizes.n)
      fail_usage(
          "lab logistic: found {} rows for m {} and q {} for n {}; expected rows >= m and q >= n, else"
          " there is no single minimum",
          sizes.rows, sizes.m, sizes.q, sizes.n);
    const HostMatrix c = draw.normal(sizes.rows, sizes.q, kStreamC);
    for (const double value : c.values) labels_.push_back(value > kLabelThreshold ? 1 : -1);
    registry_.add("x", Role::matrix, {sizes.m, sizes.n});
    place();
    minimise();
  }

  struct Evaluation {
    double value;
    HostMatrix gradient;
  };

  // The whole function, not a mini-batch.
  Evaluation evaluate(const HostMatrix& x) const {
    HostMatrix slopes =
        math_.product(math_.product(a_, Transpose::no, x, Transpose::no), Transpose::no, b_, Transpose::no);
    double value = 0.0;
    for (size_t i = 0; i < slopes.values.size(); ++i) {
      const double label = labels_[i], z = label * slopes.values[i];
      value += softplus_of_negative(z);
      slopes.values[i] = label * slope_of_negative(z);
    }
    const HostMatrix right = math_.product(slopes, Transpose::no, b_, Transpose::yes);
    return {value, math_.product(a_, Transpose::yes, right, Transpose::no)};
  }

  void minimise() {
    const HostMatrix left = math_.inverse_of_square(a_), right = math_.inverse_of_square(b_.transposed());
    HostMatrix x(sizes_.m, sizes_.n);
    for (int step = 0; step < kMostSteps; ++step) {
      const Evaluation here = evaluate(x);
      minimum_ = step == 0 ? here.value : std::min(minimum_, here.value);
      const HostMatrix direction =
          math_.product(math_.product(left, Transpose::no, here.gradient, Transpose::no), Transpose::no,
                        right, Transpose::no);
      double promise = 0.0;  // by which f falls at least: half of <G, 4 direction>
      for (size_t i = 0; i < x.values.size(); ++i) {
        promise += 2.0 * here.gradient.values[i] * direction.values[i];
        x.values[i] -= 4.0 * direction.values[i];
      }
      minimum_by_ =
          fmt::format("{} steps of descent on a quadratic upper bound, the last of which promised {:.1e}",
                      step + 1, promise);
      if (promise <= 1e-15 * here.value) return;
    }
    minimum_by_ += ", so that the true minimum may be lower";
  }

  // With replacement.
  std::vector<int32_t> rows_of(int64_t step) const {
    return after_start_->indices(sizes_.batch, sizes_.rows, kStreamRows, step);
  }

  // From the logits of these rows to the derivative of the sum by them.
  void take_slopes(float* values, const std::vector<int32_t>& rows) const {
    const auto q = static_cast<size_t>(sizes_.q);
    for (size_t i = 0; i < rows.size(); ++i)
      for (size_t j = 0; j < q; ++j) {
        const float label = labels_[static_cast<size_t>(rows[i]) * q + j];
        values[i * q + j] = label * slope_of_negative(label * values[i * q + j]);
      }
  }

  void place() {
    const auto add = [&](const char* name, int64_t rows, int64_t cols) {
      return plan_.add("lab", name, DType::f32, {rows, cols});
    };
    device_a_ = add("a", sizes_.rows, sizes_.m);
    device_b_ = add("b", sizes_.n, sizes_.q);
    batch_ = add("rows of a", sizes_.batch, sizes_.m);
    ax_ = add("a x", sizes_.batch, sizes_.n);
    slopes_ = add("logits", sizes_.batch, sizes_.q);
    rows_ = plan_.add("lab", "rows", DType::i32, {sizes_.batch});
    memory_.emplace(plan_, ops_, MemoryKind::device);
    upload(ops_, a_, at(device_a_));
    upload(ops_, b_, at(device_b_));
  }
  Tensor at(BufferId id) const { return (*memory_)[id]; }

  Ops& ops_;
  LogisticSizes sizes_;
  HostMath math_;
  std::unique_ptr<Draw> after_start_;
  HostMatrix start_, a_, b_;
  std::vector<int8_t> labels_;
  double minimum_ = 0.0;
  std::string minimum_by_;
  ParameterRegistry registry_;
  MemoryPlan plan_;
  std::optional<PlannedMemory> memory_;
  BufferId device_a_, device_b_, batch_, ax_, slopes_, rows_;
};

}  // namespace

std::unique_ptr<Problem> make_logistic(Ops& ops, const LogisticSizes& sizes, uint64_t seed,
                                       Generator generator) {
  return std::make_unique<Logistic>(ops, sizes, seed, generator);
}

}  // namespace polar::lab
