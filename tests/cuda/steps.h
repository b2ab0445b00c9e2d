// Whole steps of an optimizer on a backend.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cuda/both.h"
#include "ops/memory.h"
#include "optim/optimizer.h"

namespace polar::cuda::test {

inline const std::vector<std::pair<std::string, Shape>> kModel = {
    {"attn", {8, 8}}, {"up", {12, 6}}, {"long", {5, 30}}};

// An optimizer on one backend, whose work is repeated phase by phase as the trainer repeats it.
class Steps {
 public:
  Steps(Ops& ops, const OptimizerConfig& config)
      : ops_(ops), optimizer_(config, {}, registry(), 100, DType::f32) {
    const Shape flat{registry().flat_count()};
    const auto add = [&](const char* name, DType dtype, const Shape& shape) {
      return plan_.add("p", name, dtype, shape);
    };
    const std::array ids{add("parameters", DType::f32, flat), add("gradients", DType::f32, flat),
                         add("control", DType::f64, {kControlSize}),
                         add("rates", DType::f64, {std::ssize(config.groups)})};
    optimizer_.plan(plan_, ops);
    memory_.emplace(plan_, ops, MemoryKind::device);
    optimizer_.bind(ops, memory_->arena());
    parameters_ = (*memory_)[ids[0]];
    gradients_ = (*memory_)[ids[1]];
    control_ = (*memory_)[ids[2]];
    rates_ = (*memory_)[ids[3]];
    ops.fill(parameters_, 0.0);
    ops.fill(rates_, 0.01);
  }
  void step(uint64_t seed, bool apply = true) {
    std::vector<float> gradients(static_cast<size_t>(gradients_.count()));
    for (size_t i = 0; i < gradients.size(); ++i)
      gradients[i] = apply ? static_cast<float>(random_normal(3, seed, i)) : NAN;
    ops_.upload(gradients_, gradients.data());
    const uint64_t phase = optimizer_.phase(applied_);
    applied_ += apply ? 1 : 0;
    Values control(kControlSize);
    control[kControlApply] = apply ? 1.0 : 0.0;
    control[kControlGradientScale] = 0.5;
    control[kControlAppliedSteps] = static_cast<double>(applied_);
    ops_.upload(control_, control.data());
    std::unique_ptr<Repeated>& work = works_[phase];
    if (!work)
      work = ops_.repeat([this, phase] {
        optimizer_.step({.parameters = parameters_,
                         .gradients = gradients_,
                         .weights = {},
                         .control = control_,
                         .learning_rates = rates_},
                        phase);
      });
    work->run();
  }
  std::vector<float> parameters() {
    std::vector<float> values(static_cast<size_t>(parameters_.count()));
    ops_.download(values.data(), parameters_);
    return values;
  }
  // Of one of kModel.
  std::vector<float> parameter(const char* name) {
    const ParameterRegistry of = registry();
    const Parameter& parameter = of[of.find(name)];
    const std::vector<float> all = parameters();
    return {all.begin() + parameter.offset, all.begin() + parameter.offset + parameter.count()};
  }
  size_t planned_bytes() const { return plan_.total_bytes(); }
  size_t phases() const { return works_.size(); }

 private:
  static ParameterRegistry registry() {
    ParameterRegistry registry;
    for (const auto& [name, shape] : kModel) registry.add(name, Role::matrix, shape);
    return registry;
  }
  Ops& ops_;
  Optimizer optimizer_;
  MemoryPlan plan_;
  std::optional<PlannedMemory> memory_;
  Tensor parameters_, gradients_, control_, rates_;
  std::map<uint64_t, std::unique_ptr<Repeated>> works_;
  int64_t applied_ = 0;
};

}  // namespace polar::cuda::test
