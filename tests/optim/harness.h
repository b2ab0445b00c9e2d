// What the optimizer tests share: an optimizer on a small registry with its memory, driven from the host.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "checkpoint/safetensors.h"
#include "ops/ops.h"
#include "optim/optimizer.h"

namespace polar::testing {

inline std::vector<double> normal(uint64_t stream, int64_t count, double scale = 1.0) {
  std::vector<double> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(scale * random_normal(7, stream, i));
  return values;
}

// The largest |a - b| over the largest |b|; infinite if anything is not finite.
inline double relative_difference(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0.0, size = 0.0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    difference = std::max(difference, std::abs(a[i] - b[i]));
    size = std::max(size, std::abs(b[i]));
  }
  return difference / std::max(size, 1e-300);
}

inline double norm(const std::vector<double>& x) {
  double sum = 0.0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum);
}

// A tensor of a reference file in double, and its shape.
inline std::vector<double> golden_values(const SafetensorsFile& file, const std::string& name) {
  const Shape shape = file.info(name).shape;
  std::vector<double> values(static_cast<size_t>(shape.count()));
  file.read(name, Tensor{values.data(), DType::f64, shape});
  return values;
}

// The configuration of one matrix group that takes everything.
inline OptimizerConfig one_matrix_group(std::function<void(GroupConfig&)> change = {}) {
  GroupConfig group;
  group.match = {"*"};
  group.name = "matrix";
  group.type = GroupType::matrix;
  group.lr = 0.02;
  if (change) change(group);
  return {.groups = {group}};
}

// Device memory behind a plan, given back at the end.
class DeviceMemory {
 public:
  DeviceMemory(Ops& ops, const MemoryPlan& plan) : ops_(ops), base_(ops.allocate(plan.total_bytes())) {}
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory() { ops_.release(base_); }
  void* base() const { return base_; }

 private:
  Ops& ops_;
  void* base_;
};

// An optimizer in the precision of T, with parameters, gradients and control.
template <class T>
class Harness {
 public:
  static constexpr int64_t kMaxSteps = 1000;
  static constexpr DType kType = DTypeOf<T>::value;

  Harness(const OptimizerConfig& config, const std::vector<std::pair<std::string, Shape>>& parameters,
          int threads = 1, const std::map<std::string, int64_t>& heads = {})
      : registry_(make_registry(parameters, heads)),
        ops_(make_ops({.device = "auto", .threads = threads})),
        optimizer_(config, ScheduleConfig{}, registry_, kMaxSteps, kType) {
    const BufferId parameter_id = plan_.add("parameters", "parameters", kType, {registry_.flat_count()});
    const BufferId gradient_id = plan_.add("gradients", "gradients", kType, {registry_.flat_count()});
    const BufferId control_id = plan_.add("workspace", "control", DType::f64, {kControlSize});
    const Shape groups{static_cast<int64_t>(optimizer_.group_count())};
    const BufferId rates_id = plan_.add("workspace", "rates", DType::f64, groups);
    const BufferId betas_id = plan_.add("workspace", "betas", DType::f64, groups);
    optimizer_.plan(plan_, *ops_);
    memory_ = std::make_unique<DeviceMemory>(*ops_, plan_);
    const Arena arena(plan_, memory_->base());
    // What nobody has written must not matter: poison it.
    ops_->fill({memory_->base(), DType::f64, {static_cast<int64_t>(plan_.total_bytes() / 8)}}, NAN);
    parameters_ = arena[parameter_id];
    gradients_ = arena[gradient_id];
    control_ = arena[control_id];
    rates_ = arena[rates_id];
    betas_ = arena[betas_id];
    ops_->fill(parameters_, 0.0);
    ops_->fill(gradients_, 0.0);
    optimizer_.bind(*ops_, arena);
  }

  void set(const std::string& name, const std::vector<double>& values) {
    upload(view(parameters_, name), values);
  }
  void set_gradient(const std::string& name, const std::vector<double>& values) {
    upload(view(gradients_, name), values);
  }
  std::vector<double> get(const std::string& name) const { return download(view(parameters_, name)); }

  // One step, as the control would ask for it.
  void step(double gradient_scale = 1.0, bool apply = true) {
    applied_ += apply ? 1 : 0;
    std::vector<double> control(kControlSize, 0.0);
    control[kControlApply] = apply ? 1.0 : 0.0;
    control[kControlGradientScale] = gradient_scale;
    control[kControlAppliedSteps] = applied_;
    ops_->upload(control_, control.data());
    std::vector<double> betas;
    for (size_t g = 0; g < optimizer_.group_count(); ++g) betas.push_back(optimizer_.beta(g, calls_));
    const std::vector<double> rates = optimizer_.learning_rates(calls_++);
    ops_->upload(rates_, rates.data());
    ops_->upload(betas_, betas.data());
    optimizer_.step(tensors(), optimizer_.phase(static_cast<int64_t>(applied_) - (apply ? 1 : 0)));
  }

  // Of the step made last.
  std::optional<Diagnosis> diagnose(const std::string& name) const {
    return optimizer_.diagnose(name, calls_ - 1, tensors(), Spectrum(1));
  }

  std::map<std::string, std::vector<double>> state() const {
    std::map<std::string, std::vector<double>> values;
    for (const StateTensor& s : optimizer_.state()) values[s.name] = download(s.tensor);
    return values;
  }
  void set_state(const std::string& name, const std::vector<double>& values) {
    for (const StateTensor& s : optimizer_.state())
      if (s.name == name) return upload(s.tensor, values);
    FAIL() << "no state " << name;
  }
  // Takes over parameters, state and step counts of another run, as a resume does.
  void load(const Harness& other) {
    ops_->copy(other.parameters_, parameters_);
    const auto mine = optimizer_.state(), theirs = other.optimizer_.state();
    for (size_t i = 0; i < mine.size(); ++i) ops_->copy(theirs[i].tensor, mine[i].tensor);
    calls_ = other.calls_;
    applied_ = other.applied_;
  }
  std::vector<double> all_parameters() const { return download(parameters_); }
  const Optimizer& optimizer() const { return optimizer_; }
  const MemoryPlan& plan() const { return plan_; }

 private:
  static ParameterRegistry make_registry(const std::vector<std::pair<std::string, Shape>>& parameters,
                                         const std::map<std::string, int64_t>& heads) {
    ParameterRegistry registry;
    for (const auto& [name, shape] : parameters)
      registry.add(name, shape.rank() == 2 ? Role::matrix : Role::norm, shape, false,
                   heads.contains(name) ? heads.at(name) : 1);
    return registry;
  }
  StepTensors tensors() const {
    return {.parameters = parameters_,
            .gradients = gradients_,
            .weights = {},
            .control = control_,
            .learning_rates = rates_,
            .betas = betas_};
  }
  Tensor view(const Tensor& flat, const std::string& name) const {
    return registry_.view(flat, registry_.find(name));
  }
  void upload(const Tensor& to, const std::vector<double>& values) {
    ASSERT_EQ(static_cast<int64_t>(values.size()), to.count());
    const std::vector<T> converted(values.begin(), values.end());
    ops_->upload(to, converted.data());
  }
  std::vector<double> download(const Tensor& from) const {
    std::vector<T> values(static_cast<size_t>(from.count()));
    ops_->download(values.data(), from);
    ops_->synchronize();
    return {values.begin(), values.end()};
  }

  ParameterRegistry registry_;
  std::unique_ptr<Ops> ops_;
  Optimizer optimizer_;
  MemoryPlan plan_;
  std::unique_ptr<DeviceMemory> memory_;
  Tensor parameters_, gradients_, control_, rates_, betas_;
  int64_t calls_ = 0;
  double applied_ = 0.0;
};

// A reference run of ten steps: start values, gradients, and what parameters and state must be at the end.
class Golden {
 public:
  explicit Golden(const std::string& name) : file_(std::string(POLAR_GOLDEN_DIR "/optim/") + name) {
    for (const TensorInfo& info : file_.tensors())
      if (info.name.starts_with("start:")) parameters_.emplace_back(info.name.substr(6), info.shape);
  }
  const std::vector<std::pair<std::string, Shape>>& parameters() const { return parameters_; }

  const SafetensorsFile& file() const { return file_; }

  // Runs all steps on a harness that was made for `parameters()`; after each, `after` with its number from 0.
  template <class T>
  void run(Harness<T>& harness, const std::function<void(int64_t)>& after = {}) const {
    for (const auto& [name, shape] : parameters_) harness.set(name, golden_values(file_, "start:" + name));
    const int64_t steps = file_.info("gradient:" + parameters_.front().first).shape[0];
    for (int64_t step = 0; step < steps; ++step) {
      for (const auto& [name, shape] : parameters_) {
        const std::vector<double> all = golden_values(file_, "gradient:" + name);
        const auto begin = all.begin() + step * shape.count();
        harness.set_gradient(name, {begin, begin + shape.count()});
      }
      harness.step();
      if (after) after(step);
    }
  }

  // Compares parameters ("case:NAME") and state (`states`: our prefix -> the file's) within `tolerance`.
  template <class T>
  void compare(const Harness<T>& harness, const std::string& test_case, double tolerance,
               const std::map<std::string, std::string>& states) const {
    const auto state = harness.state();
    for (const auto& [name, shape] : parameters_) {
      EXPECT_LE(relative_difference(harness.get(name), golden_values(file_, test_case + ":" + name)),
                tolerance)
          << test_case << " " << name;
      for (const auto& [ours, theirs] : states)
        EXPECT_LE(relative_difference(state.at(ours + ":" + name),
                                      golden_values(file_, test_case + theirs + ":" + name)),
                  tolerance)
            << test_case << " " << ours << " " << name;
    }
  }

 private:
  SafetensorsFile file_;
  std::vector<std::pair<std::string, Shape>> parameters_;
};

}  // namespace polar::testing
