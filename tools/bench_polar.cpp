// polartrain bench polar: the matrix optimizer's step (momentum, polar factor, update) on a model's hidden
// matrices, shape by shape, as a whole, and shared among ranks. FLOPs are counted with symmetric products at
// half the work.
#include <map>
#include <utility>

#include "bench.h"
#include "model/registry.h"
#include "optim/optimizer.h"
#include "optim/oracle.h"
#include "optim/shard_plan.h"

namespace polar::bench {
namespace {

// The rule of the first matrix group of a configuration, for whatever parameters there are.
GroupConfig matrix_rule(const Sizes& sizes) {
  for (GroupConfig group : sizes.optimizer.groups)
    if (group.type == GroupType::matrix) {
      group.match = {"*"};
      if (group.oracle.products == "auto")
        group.oracle.products = sizes.dtype == DType::bf16 ? "reduced" : "full";
      return group;
    }
  fail_usage("bench polar: {} has no matrix optimizer; expected a group of type muon, polargrad or matrix",
             sizes.name);
}

ParameterRegistry registry_of(const std::vector<Parameter>& matrices) {
  ParameterRegistry registry;
  for (const Parameter& matrix : matrices)
    registry.add(matrix.name, matrix.role, matrix.shape, false, matrix.heads);
  return registry;
}

class PolarStep {
 public:
  PolarStep(Ops& ops, const Sizes& sizes, const GroupConfig& rule, const std::vector<Parameter>& matrices)
      : registry_(registry_of(matrices)),
        optimizer_({.groups = {rule}}, ScheduleConfig{}, registry_, 1, DType::f32),
        buffers_(ops) {
    optimizer_.plan(plan_, ops);
    memory_.emplace(plan_, ops, MemoryKind::device);
    optimizer_.bind(ops, memory_->arena());
    const Shape flat{registry_.flat_count()};
    const BufferId parameters = buffers_.add(DType::f32, flat), gradients = buffers_.add(DType::f32, flat),
                   control = buffers_.add(DType::f64, {kControlSize}),
                   rates = buffers_.add(DType::f64, {1});  // 0: nothing moves
    const BufferId weights = sizes.dtype == DType::bf16 ? buffers_.add(DType::bf16, flat) : BufferId{};
    buffers_.allocate();
    upload_control(ops, buffers_[control]);
    tensors_ = {.parameters = buffers_[parameters],
                .gradients = buffers_[gradients],
                .weights = buffers_[weights],
                .control = buffers_[control],
                .learning_rates = buffers_[rates]};
  }
  void run() { optimizer_.step(tensors_, optimizer_.phase(1)); }

 private:
  ParameterRegistry registry_;
  Optimizer optimizer_;
  MemoryPlan plan_;
  std::optional<PlannedMemory> memory_;
  Buffers buffers_;
  StepTensors tensors_;
};

Timing step_row(Ops& ops, Report& report, const Sizes& sizes, const GroupConfig& rule,
                const std::string& name, const std::vector<Parameter>& matrices) {
  PolarStep step(ops, sizes, rule, matrices);
  const Oracle oracle(rule.oracle);
  double flops = 0.0;
  for (const Parameter& matrix : matrices) flops += oracle.flops(matrix.shape[0], matrix.shape[1]);
  step.run();
  const int64_t before = ops.launches();
  step.run();
  const int64_t launches = ops.launches() - before;
  const Timing timing = report.row(ops, name, flops, [&] { step.run(); });
  report.note("matrices", std::ssize(matrices));
  if (launches > 0) report.note("launches", launches);
  return timing;
}

// The part of each of several ranks, beside the time of all matrices on one.
void rank_rows(Ops& ops, Report& report, const Sizes& sizes, const GroupConfig& rule, int ranks,
               const Timing& all) {
  const ParameterRegistry registry = make_registry(sizes.model);
  std::vector<double> costs;
  for (const Parameter& parameter : registry.parameters())
    costs.push_back(parameter.role == Role::matrix ? owner_cost(rule, parameter) : 0.0);
  const ShardPlan shards(registry, costs, {.world_size = ranks});
  std::vector<std::vector<Parameter>> owned(static_cast<size_t>(ranks));
  for (size_t b = 0; b < shards.matrix_buckets(); ++b)
    for (const Bucket::Piece& piece : shards.buckets()[b].pieces)
      owned[static_cast<size_t>(piece.owner)].push_back(registry[piece.parameter]);
  for (int rank = 0; rank < ranks; ++rank) {
    const std::vector<Parameter>& matrices = owned[static_cast<size_t>(rank)];
    if (matrices.empty()) continue;
    const Timing own =
        step_row(ops, report, sizes, rule, fmt::format("rank {} of {}", rank, ranks), matrices);
    const double share = own.median / all.median;
    report.note("share_of_all", share, fmt::format("  {:.2f} of all", share));
  }
}

}  // namespace

ExitCode bench_polar(const Options& options) {
  const auto ops = open_device(options);
  const Sizes sizes = sizes_of(options, *ops);
  const GroupConfig rule = matrix_rule(sizes);
  Report report(*ops, sizes, Report::Unit::flops, gemm_peak(*ops, options, sizes.dtype), options);
  std::vector<Parameter> matrices;
  std::map<std::pair<int64_t, int64_t>, std::vector<Parameter>> by_shape;
  const ParameterRegistry registry = make_registry(sizes.model);
  for (const Parameter& parameter : registry.parameters())
    if (parameter.role == Role::matrix) {
      matrices.push_back(parameter);
      by_shape[{parameter.shape[0], parameter.shape[1]}].push_back(parameter);
    }
  for (const auto& [shape, members] : by_shape)
    step_row(*ops, report, sizes, rule, fmt::format("{} x {}", shape.first, shape.second), members);
  const Timing all =
      step_row(*ops, report, sizes, rule, fmt::format("all, {}", Oracle(rule.oracle).text()), matrices);
  if (options.world_size > 1) rank_rows(*ops, report, sizes, rule, options.world_size, all);
  return report.print();
}

}  // namespace polar::bench
