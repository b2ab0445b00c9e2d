#include "optim/group.h"

#include <algorithm>

namespace polar {

void MatrixScratch::require(const Need& need) {
  need_.batch = std::max(need_.batch, need.batch);
  need_.matrices = std::max(need_.matrices, need.matrices);
  need_.input = std::max(need_.input, need.input);
  need_.squares = std::max(need_.squares, need.squares);
  need_.products = std::max(need_.products, need.products);
  need_.factors = std::max(need_.factors, need.factors);
  need_.solver = std::max(need_.solver, need.solver);
  need_.unscaled_control |= need.unscaled_control;
}

void MatrixScratch::plan(MemoryPlan& memory) {
  const auto add = [&](BufferId& id, const char* name, DType type, int64_t count) {
    if (count > 0) id = memory.add("workspace", name, type, {count});
  };
  add(x_, "polar.x", dtype_, need_.matrices);
  add(y_, "polar.y", dtype_, need_.matrices);
  add(input_, "polar.input", dtype_, need_.input);
  add(gram_, "polar.gram", dtype_, need_.squares);
  add(polynomial_, "polar.polynomial", dtype_, need_.squares);
  add(product_, "polar.product", dtype_, need_.products);
  add(product_next_, "polar.product_next", dtype_, need_.products);
  add(factors_, "polar.factors", DType::f64, need_.factors);
  add(solver_, "polar.solver", DType::f64, static_cast<int64_t>((need_.solver + 7) / 8));
  add(nuclear_, "polar.nuclear", DType::f64, need_.batch);
  add(unscaled_, "polar.unscaled_control", DType::f64, need_.unscaled_control ? kControlSize : 0);
}

void MatrixScratch::bind(Ops& ops, const Arena& arena) {
  x = arena[x_];
  y = arena[y_];
  input = arena[input_];
  gram = arena[gram_];
  polynomial = arena[polynomial_];
  product = arena[product_];
  product_next = arena[product_next_];
  factors = arena[factors_];
  solver = arena[solver_];
  nuclear = arena[nuclear_];
  unscaled_control = arena[unscaled_];
  // A skipped step leaves the iterate as it is, and the oracle still runs on it: it must hold numbers.
  for (const Tensor& iterate : {x, input})
    if (iterate) ops.fill(iterate, 0.0);
}

void MatrixScratch::begin_step(Ops& ops, const Tensor& control) const {
  if (!unscaled_control) return;
  ops.copy(control, unscaled_control);
  ops.fill(unscaled_control.slice(kControlGradientScale, {1}), 1.0);
}

}  // namespace polar
