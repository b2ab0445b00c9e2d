#include "optim/group.h"

#include <algorithm>
#include <cmath>

namespace polar {
namespace {

constexpr size_t kMostNames = 4;  // in one message

bool all_finite(Ops& ops, const Tensor& tensor) {
  const std::vector<double> values = download_values(ops, tensor);
  return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
}

}  // namespace

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

void Group::fail_for(Ops& ops, const StepTensors& tensors, const std::vector<size_t>& members,
                     const Error& error) const {
  std::vector<std::string> broken, all;
  const std::vector<StateTensor> states = state();
  try {
    for (const size_t index : members) {
      const Member& member = members_[index];
      all.push_back(member.name);
      if (!all_finite(ops, tensors.gradients.slice(member.gradient, {member.count}))) {
        broken.push_back(member.name + " (its gradient is not finite)");
        continue;
      }
      const auto bad = std::find_if(states.begin(), states.end(), [&](const StateTensor& s) {
        return s.name.ends_with(":" + member.name) && !all_finite(ops, s.tensor);
      });
      if (bad != states.end())
        broken.push_back(
            fmt::format("{} (its {} is not finite)", member.name, bad->name.substr(0, bad->name.find(':'))));
    }
  } catch (const Error&) {  // a device that is lost: its own error follows
  }
  std::vector<std::string>& named = broken.empty() ? all : broken;
  const size_t left_out = named.size() - std::min(named.size(), kMostNames);
  named.resize(named.size() - left_out);
  throw Error(fmt::format("optimizer group {}: {}{}{}: {}", config_.name,
                          broken.empty() && all.size() > 1 ? "one of " : "", fmt::join(named, ", "),
                          left_out > 0 ? fmt::format(" and {} more", left_out) : "", error.what()),
              error.code());
}

}  // namespace polar
