// f(X) = 1/2 ||A X B - C||_F^2. Its gradient A^T (A X B - C) B^T is computed in the format of training, in
// four products; the gap f(X) - f* = 1/2 ||A (X - X*) B||_F^2 in fp64, where X* = (A^T A)^{-1} A^T C B^T (B
// B^T)^{-1}, so that nothing cancels near the minimum.
#include <optional>

#include "lab/draw.h"
#include "lab/host_matrix.h"
#include "lab/problem.h"
#include "ops/memory.h"

namespace polar::lab {
namespace {

constexpr uint64_t kStreamA = 1, kStreamB = 2, kStreamC = 3, kStreamX = 4;

class Quadratic final : public Problem {
 public:
  Quadratic(Ops& ops, const QuadraticSizes& sizes, uint64_t seed, Generator generator)
      : Quadratic(ops, sizes, *make_draw(generator, seed),
                  make_draw(generator, seed)->uniform(sizes.m, sizes.n, kStreamX)) {}

  const ParameterRegistry& registry() const override { return registry_; }

  std::vector<float> start() const override { return flat_of(registry_, {start_}); }

  void gradient(const Tensor& parameters, const Tensor& gradients, int64_t) override {
    const Tensor ax = at(ax_), residual = at(residual_), back = at(back_);
    ops_.gemm(Transpose::no, Transpose::no, 1.0, at(device_a_), as_x(parameters), 0.0, ax);
    ops_.copy(at(device_c_), residual);
    ops_.gemm(Transpose::no, Transpose::no, 1.0, ax, at(device_b_), -1.0, residual);
    ops_.gemm(Transpose::yes, Transpose::no, 1.0, at(device_a_), residual, 0.0, back);
    ops_.gemm(Transpose::no, Transpose::yes, 1.0, back, at(device_b_), 0.0, as_x(gradients));
  }

  const std::vector<Quantity>& quantities() const override {
    static const std::vector<Quantity> kAll{
        {"gap", "f(X) - f*"},
        {"residual_condition", "condition number of A X B - C"},
        {"gradient_condition", "condition number of the gradient"},
        {"gradient_nuclear_norm", "nuclear norm of the gradient"},
    };
    return kAll;
  }

  std::vector<double> measure(const std::vector<float>& parameters) const override {
    const HostMatrix x = matrix_of(registry_, 0, parameters);
    HostMatrix error = x;
    for (size_t i = 0; i < error.values.size(); ++i) error.values[i] -= minimum_.values[i];
    const HostMatrix residual = residual_at(x);
    const HostMatrix gradient = math_.product(math_.product(a_, Transpose::yes, residual, Transpose::no),
                                              Transpose::no, b_, Transpose::yes);
    const std::vector<double> values = math_.singular_values(gradient);
    return {0.5 * between(error).squares(), condition_of(math_.singular_values(residual)),
            condition_of(values), sum_of(values)};
  }
  double minimum() const override { return 0.5 * residual_at(minimum_).squares(); }
  std::string minimum_by() const override { return "the normal equations"; }

  // X <- X - lr (A^T A)^{-1} G (B B^T)^{-1}
  bool reference_step(const Tensor& parameters, double lr) override {
    gradient(parameters, at(newton_), 0);
    ops_.gemm(Transpose::no, Transpose::no, 1.0, at(device_left_), as_x(at(newton_)), 0.0, at(back_x_));
    ops_.gemm(Transpose::no, Transpose::no, -lr, at(back_x_), at(device_right_), 1.0, as_x(parameters));
    return true;
  }

 private:
  // a_, b_ and c_ are members in the order in which they are drawn.
  Quadratic(Ops& ops, const QuadraticSizes& sizes, Draw& draw, HostMatrix start)
      : ops_(ops),
        sizes_(sizes),
        start_(std::move(start)),
        a_(draw.normal(sizes.p, sizes.m, kStreamA)),
        b_(draw.normal(sizes.n, sizes.q, kStreamB)),
        c_(draw.normal(sizes.p, sizes.q, kStreamC)),
        left_inverse_(math_.inverse_of_square(a_)),
        right_inverse_(math_.inverse_of_square(b_.transposed())),
        minimum_(minimiser()) {
    registry_.add("x", Role::matrix, {sizes.m, sizes.n});
    place();
  }

  // A y B
  HostMatrix between(const HostMatrix& y) const {
    return math_.product(math_.product(a_, Transpose::no, y, Transpose::no), Transpose::no, b_,
                         Transpose::no);
  }
  HostMatrix residual_at(const HostMatrix& x) const {
    HostMatrix residual = between(x);
    for (size_t i = 0; i < residual.values.size(); ++i) residual.values[i] -= c_.values[i];
    return residual;
  }
  HostMatrix minimiser() const {
    const HostMatrix right = math_.product(math_.product(a_, Transpose::yes, c_, Transpose::no),
                                           Transpose::no, b_, Transpose::yes);
    return math_.product(math_.product(left_inverse_, Transpose::no, right, Transpose::no), Transpose::no,
                         right_inverse_, Transpose::no);
  }

  void place() {
    const auto& s = sizes_;
    const auto add = [&](const char* name, int64_t rows, int64_t cols) {
      return plan_.add("lab", name, DType::f32, {rows, cols});
    };
    device_a_ = add("a", s.p, s.m);
    device_b_ = add("b", s.n, s.q);
    device_c_ = add("c", s.p, s.q);
    device_left_ = add("left inverse", s.m, s.m);
    device_right_ = add("right inverse", s.n, s.n);
    ax_ = add("a x", s.p, s.n);
    residual_ = add("residual", s.p, s.q);
    back_ = add("a^T residual", s.m, s.q);
    newton_ = add("gradient of a Newton step", s.m, s.n);
    back_x_ = add("Newton direction", s.m, s.n);
    memory_.emplace(plan_, ops_, MemoryKind::device);
    upload(ops_, a_, at(device_a_));
    upload(ops_, b_, at(device_b_));
    upload(ops_, c_, at(device_c_));
    upload(ops_, left_inverse_, at(device_left_));
    upload(ops_, right_inverse_, at(device_right_));
  }
  Tensor at(BufferId id) const { return (*memory_)[id]; }
  Tensor as_x(const Tensor& flat) const { return flat.slice(0, {sizes_.m, sizes_.n}); }

  Ops& ops_;
  QuadraticSizes sizes_;
  HostMath math_;
  HostMatrix start_, a_, b_, c_, left_inverse_, right_inverse_, minimum_;
  ParameterRegistry registry_;
  MemoryPlan plan_;
  std::optional<PlannedMemory> memory_;
  BufferId device_a_, device_b_, device_c_, device_left_, device_right_, ax_, residual_, back_, newton_,
      back_x_;
};

}  // namespace

std::unique_ptr<Problem> make_quadratic(Ops& ops, const QuadraticSizes& sizes, uint64_t seed,
                                        Generator generator) {
  return std::make_unique<Quadratic>(ops, sizes, seed, generator);
}

}  // namespace polar::lab
