// f(X, Y) = ||mask .* (X Y^T - M)||_F^2 / |mask|, whose gradients are 2 R Y / |mask| and 2 R^T X / |mask|
// with the masked residual R.
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

constexpr uint64_t kStreamLeft = 21, kStreamRight = 22, kStreamMask = 23, kStreamX = 24, kStreamY = 25;

class Completion final : public Problem {
 public:
  Completion(Ops& ops, const CompletionSizes& sizes, uint64_t seed, Generator generator)
      : ops_(ops), sizes_(sizes), target_(static_cast<size_t>(sizes.m * sizes.n)) {
    if (!(sizes.share > 0.0 && sizes.share <= 1.0))
      fail_usage("lab completion: found a share of {} elements that are seen, expected above 0 and at most 1",
                 sizes.share);
    if (sizes.rank > std::min(sizes.m, sizes.n))
      fail_usage("lab completion: found rank {} of a matrix of {} x {}, expected at most its shorter side",
                 sizes.rank, sizes.m, sizes.n);
    draw_all(*make_draw(generator, seed), *make_draw(generator, seed));
    count_ = static_cast<double>(std::count(seen_.begin(), seen_.end(), 1));
    if (count_ == 0.0) fail_usage("lab completion: no element is seen; expected a larger matrix or share");
    registry_.add("x", Role::matrix, {sizes.m, sizes.rank});
    registry_.add("y", Role::matrix, {sizes.n, sizes.rank});
    residual_ = plan_.add("lab", "residual", DType::f32, {sizes.m, sizes.n});
    reference_ = plan_.add("lab", "gradients of alternating descent", DType::f32, {registry_.flat_count()});
    memory_.emplace(plan_, ops_, MemoryKind::device);
    ops_.fill(at(reference_), 0.0);
  }

  const ParameterRegistry& registry() const override { return registry_; }

  std::vector<float> start() const override { return flat_of(registry_, start_); }

  void gradient(const Tensor& parameters, const Tensor& gradients, int64_t) override {
    const Tensor residual = at(residual_);
    const Tensor x = registry_.view(parameters, 0), y = registry_.view(parameters, 1);
    ops_.gemm(Transpose::no, Transpose::yes, 1.0, x, y, 0.0, residual);
    on_host(ops_, residual, [&](float* values) {
      for (size_t i = 0; i < target_.size(); ++i) values[i] = seen_[i] ? values[i] - target_[i] : 0.0f;
    });
    const double scale = 2.0 / count_;
    ops_.gemm(Transpose::no, Transpose::no, scale, residual, y, 0.0, registry_.view(gradients, 0));
    ops_.gemm(Transpose::yes, Transpose::no, scale, residual, x, 0.0, registry_.view(gradients, 1));
  }

  const std::vector<Quantity>& quantities() const override {
    static const std::vector<Quantity> kAll{
        {"gap", "f(X, Y)"},
        {"residual_condition", "condition number of the masked residual"},
        {"gradient_condition_x", "condition number of the gradient by X"},
        {"gradient_condition_y", "condition number of the gradient by Y"},
        {"gradient_nuclear_norm_x", "nuclear norm of the gradient by X"},
        {"gradient_nuclear_norm_y", "nuclear norm of the gradient by Y"},
    };
    return kAll;
  }

  std::vector<double> measure(const std::vector<float>& parameters) const override {
    const HostMatrix x = matrix_of(registry_, 0, parameters), y = matrix_of(registry_, 1, parameters);
    HostMatrix residual = math_.product(x, Transpose::no, y, Transpose::yes);
    for (size_t i = 0; i < target_.size(); ++i)
      residual.values[i] = seen_[i] ? residual.values[i] - static_cast<double>(target_[i]) : 0.0;
    const std::vector<double> by_x = gradient_values(residual, Transpose::no, y),
                              by_y = gradient_values(residual, Transpose::yes, x);
    return {residual.squares() / count_,
            condition_of(math_.singular_values(residual)),
            condition_of(by_x),
            condition_of(by_y),
            sum_of(by_x),
            sum_of(by_y)};
  }
  double minimum() const override { return 0.0; }
  std::string minimum_by() const override {
    return "the factors that M is made of, but for M's rounding to fp32";
  }

  bool reference_step(const Tensor& parameters, double lr) override {
    for (const int factor : {0, 1}) {
      gradient(parameters, at(reference_), 0);
      ops_.axpby(-lr, registry_.view(at(reference_), factor), 1.0, registry_.view(parameters, factor));
    }
    return true;
  }

 private:
  // In the order of the statements. `truth` and `start` are seeded alike.
  void draw_all(Draw& truth, Draw& start) {
    const HostMatrix left = truth.normal(sizes_.m, sizes_.rank, kStreamLeft);
    const HostMatrix right = truth.normal(sizes_.n, sizes_.rank, kStreamRight);
    const HostMatrix product = math_.product(left, Transpose::no, right, Transpose::yes);
    std::copy(product.values.begin(), product.values.end(), target_.begin());
    seen_ = truth.chosen(sizes_.m * sizes_.n, sizes_.share, kStreamMask);
    start_.push_back(start.uniform(sizes_.m, sizes_.rank, kStreamX));
    start_.push_back(start.uniform(sizes_.n, sizes_.rank, kStreamY));
  }
  // The singular values of 2 op(R) factor / |mask|.
  std::vector<double> gradient_values(const HostMatrix& residual, Transpose transpose,
                                      const HostMatrix& factor) const {
    std::vector<double> values =
        math_.singular_values(math_.product(residual, transpose, factor, Transpose::no));
    for (double& value : values) value *= 2.0 / count_;
    return values;
  }
  Tensor at(BufferId id) const { return (*memory_)[id]; }

  Ops& ops_;
  CompletionSizes sizes_;
  HostMath math_;
  std::vector<float> target_;
  std::vector<uint8_t> seen_;
  std::vector<HostMatrix> start_;
  double count_ = 0.0;
  ParameterRegistry registry_;
  MemoryPlan plan_;
  std::optional<PlannedMemory> memory_;
  BufferId residual_, reference_;
};

}  // namespace

std::unique_ptr<Problem> make_completion(Ops& ops, const CompletionSizes& sizes, uint64_t seed,
                                         Generator generator) {
  return std::make_unique<Completion>(ops, sizes, seed, generator);
}

}  // namespace polar::lab
