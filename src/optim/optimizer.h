// The optimizer of a run: every parameter belongs to one group (optim/routing.h), a group is AdamW
// (optim/adamw.h), a matrix rule (optim/matrix.h), Shampoo or SOAP (optim/shampoo.h, optim/soap.h), and each
// follows its own learning-rate schedule.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "optim/config.h"
#include "optim/group.h"
#include "optim/shard_plan.h"
#include "tensor/memory_plan.h"
#include "tensor/registry.h"

namespace polar {

// Life: construct (routes, checks), plan, bind, then step as often as wanted. Construction and `table` need
// no device. Errors of the configuration are Errors with exit code 2 that name the group or the parameter.
class Optimizer {
 public:
  // Which rank of how many this is, where the work is shared among ranks.
  struct Share {
    const ShardPlan* plan = nullptr;  // none: everything is this rank's
    int rank = 0;
    bool own_parameters = false;  // the parameter buffer holds what is this rank's only
  };
  // `dtype` is that of parameters, gradients and state. Registry and share are read during construction only.
  Optimizer(const OptimizerConfig& config, const ScheduleConfig& schedule, const ParameterRegistry& registry,
            int64_t max_steps, DType dtype, const Share& share);
  Optimizer(const OptimizerConfig& config, const ScheduleConfig& schedule, const ParameterRegistry& registry,
            int64_t max_steps, DType dtype)
      : Optimizer(config, schedule, registry, max_steps, dtype, Share{}) {}

  // Adds the state (category "optimizer") and the scratch space of a step (category "workspace").
  void plan(MemoryPlan& memory, const Ops& ops);
  // Takes the planned memory and sets the state to zero. `ops` must outlive the optimizer.
  void bind(Ops& ops, const Arena& arena);

  // One update of all parameters that are this rank's, gradients are kept. `tensors.control` is what
  // Ops::step_control wrote: if it says skip, nothing changes, bit for bit. Every call with the same tensors
  // and the same phase queues the same work.
  void step(const StepTensors& tensors, uint64_t phase);
  // The phase of the step that comes after this many applied (not skipped) ones: always 0 unless there are
  // groups that make something once in a number of steps only.
  uint64_t phase(int64_t applied_steps) const;

  // Of the update that was made last, with `tensors`, at `step` (from 0): Group::diagnose. The device is
  // waited for.
  std::optional<Diagnosis> diagnose(const std::string& parameter, int64_t step, const StepTensors& tensors,
                                    const Spectrum& spectrum) const;

  // All state of this rank by parameter name, each in the shape of its parameter (StateTensor says more of
  // what is cut), as views of device memory:
  // "adamw.m:NAME", "adamw.v:NAME", "matrix.momentum:NAME" (not for momentum `none`); with neuron_beta
  // "matrix.neurons:NAME", a second moment for each neuron of each head; of Shampoo and SOAP, besides,
  // squares of the sides of a parameter: "soap.l:NAME".
  std::vector<StateTensor> state() const;

  // The learning rate of a group at a step (0 .. max_steps - 1); groups in the order of the configuration.
  // StepTensors::learning_rates has to hold those of all.
  double learning_rate(size_t group, int64_t step) const;
  std::vector<double> learning_rates(int64_t step) const;
  // The momentum's beta of a group at a step: what StepTensors::betas has to hold of all groups.
  double beta(size_t group, int64_t step) const;
  size_t group_count() const { return groups_.size(); }
  // The names of the groups in that order: the YAML type, e.g. "polargrad".
  std::vector<std::string> group_names() const;

  // One line a parameter family (layer numbers replaced by *): shape, count, rule, learning rate, effective
  // multiplier of the direction, weight decay.
  std::string table() const;

 private:
  bool iterates_in_bf16(const GroupConfig& group, const Ops& ops) const;
  const MatrixScratch& scratch_of(size_t group) const { return in_bf16_[group] ? bf16_scratch_ : scratch_; }

  std::vector<std::unique_ptr<Group>> groups_;
  std::vector<ScheduleConfig> schedules_;
  int64_t max_steps_;
  DType dtype_;
  // A space for each format: what a group left in a shared one would be no numbers to the next.
  MatrixScratch scratch_, bf16_scratch_;
  std::vector<bool> in_bf16_;  // by group: which it has
  Ops* ops_ = nullptr;
};

// "model.layers.11.mlp.up_proj.weight" -> "model.layers.*.mlp.up_proj.weight": parts that are all digits.
std::string family_of(const std::string& parameter);

// What a step costs the owner of a parameter that is never cut, 0 for one that is: those of adamw, and
// vectors and what is of no layer of element-wise rules. With sides s <= l the unit is that of a polar step,
// s^2 (2 l + s) (of each head, if by heads).
double owner_cost(const GroupConfig& group, const Parameter& parameter);
// By parameter index, each with its group. Errors: those of route_parameters.
std::vector<double> owner_costs(const OptimizerConfig& config, const ParameterRegistry& registry);

}  // namespace polar
