#include "lab/run.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "base/error.h"
#include "ops/memory.h"
#include "optim/optimizer.h"

namespace polar::lab {
namespace {

constexpr double kDiverged = 1e3;  // times the first gap

// One optimizer with what a step works on.
class Session {
 public:
  Session(Ops& ops, Problem& problem, const Setting& setting, int64_t steps)
      : ops_(ops),
        problem_(problem),
        setting_(setting),
        optimizer_({.groups = {setting.group}}, ScheduleConfig{}, problem.registry(), steps, DType::f32) {
    const Shape flat{problem.registry().flat_count()};
    parameters_ = plan_.add("lab", "parameters", DType::f32, flat);
    gradients_ = plan_.add("lab", "gradients", DType::f32, flat);
    control_ = plan_.add("lab", "control", DType::f64, {kControlSize});
    rate_ = plan_.add("lab", "learning rate", DType::f64, {1});
    optimizer_.plan(plan_, ops);
    memory_.emplace(plan_, ops, MemoryKind::device);
    optimizer_.bind(ops, memory_->arena());
    ops.fill(at(gradients_), 0.0);
    const std::vector<float> start = problem.start();
    if (std::ssize(start) != problem.registry().flat_count())
      fail("lab: found {} values to start from, expected {}", start.size(), problem.registry().flat_count());
    ops.upload(at(parameters_), start.data());
  }

  void step(int64_t index) {
    const double lr = rate_at(index);
    if (setting_.reference) {
      if (!problem_.reference_step(at(parameters_), lr))
        fail_usage("lab: {}: this problem has no reference method", setting_.name);
      return;
    }
    std::vector<double> control(kControlSize, 0.0);
    control[kControlApply] = control[kControlGradientScale] = 1.0;
    control[kControlAppliedSteps] = static_cast<double>(index + 1);
    ops_.upload(at(control_), control.data());
    ops_.upload(at(rate_), &lr);
    problem_.gradient(at(parameters_), at(gradients_), index);
    optimizer_.step({.parameters = at(parameters_),
                     .gradients = at(gradients_),
                     .weights = {},
                     .control = at(control_),
                     .learning_rates = at(rate_)},
                    optimizer_.phase(index));
  }

  double rate_at(int64_t index) const {
    return setting_.group.lr * std::pow(setting_.decay, static_cast<double>(index / setting_.decay_every));
  }
  std::vector<float> parameters() { return values_of(parameters_); }
  std::vector<float> gradients() { return values_of(gradients_); }

 private:
  std::vector<float> values_of(BufferId id) {
    std::vector<float> values(static_cast<size_t>(at(id).count()));
    ops_.download(values.data(), at(id));
    ops_.synchronize();
    return values;
  }
  Tensor at(BufferId id) const { return (*memory_)[id]; }

  Ops& ops_;
  Problem& problem_;
  const Setting& setting_;
  Optimizer optimizer_;
  MemoryPlan plan_;
  std::optional<PlannedMemory> memory_;
  BufferId parameters_, gradients_, control_, rate_;
};

bool all_finite(const std::vector<float>& values) {
  for (const float value : values)
    if (!std::isfinite(value)) return false;
  return true;
}

}  // namespace

bool is_measured(int64_t step, int64_t every, int64_t steps) {
  if (step == steps || step % every == 0) return true;
  return step < 5 * every && step % std::max<int64_t>(1, every / 10) == 0;
}

Result run(Ops& ops, Problem& problem, const Setting& setting, int64_t steps, int64_t every, uint64_t seed,
           const std::function<void(int64_t, double)>& progress) {
  Session session(ops, problem, setting, steps);
  Result result{.setting = setting, .seed = seed, .points = {}, .diverged = false};
  for (int64_t step = 0; step <= steps; ++step) {
    if (is_measured(step, every, steps)) {
      const std::vector<float> parameters = session.parameters();
      result.diverged = !all_finite(parameters);
      if (result.diverged) return result;
      result.points.push_back({step, session.rate_at(step), problem.measure(parameters)});
      const double gap = result.points.back().gap();
      result.diverged = !(gap <= kDiverged * result.points.front().gap());
      if (progress) progress(step, gap);
      if (result.diverged) return result;
    }
    if (step == steps) break;
    try {
      session.step(step);
    } catch (const Error&) {  // an oracle that was given what is no number any more?
      if (all_finite(session.parameters()) && all_finite(session.gradients())) throw;
      result.diverged = true;
      return result;
    }
  }
  return result;
}

}  // namespace polar::lab
