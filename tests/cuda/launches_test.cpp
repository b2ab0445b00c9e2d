// How many kernels an optimizer step launches.
#include "cuda/both.h"
#include "kernels/launch_count.h"
#include "ops/memory.h"
#include "optim/optimizer.h"

namespace polar::cuda::test {
namespace {

// Of a model of so many layers whose matrices are small enough for one batch of a shape.
int64_t launches_of_a_step(const GroupConfig& rule, int layers) {
  Both both;
  ParameterRegistry registry;
  for (int i = 0; i < layers; ++i) {
    const auto add = [&](const char* name, Shape shape) {
      registry.add(fmt::format("{}.{}", i, name), Role::matrix, shape);
    };
    add("q", {8, 8});
    add("o", {8, 8});
    add("up", {24, 8});
    add("down", {8, 24});
  }
  GroupConfig group = rule;
  group.match = {"*"};
  group.name = "matrix";
  group.type = GroupType::matrix;
  Optimizer optimizer({.groups = {group}}, {}, registry, 10, DType::f32);
  MemoryPlan plan;
  const Shape flat{registry.flat_count()};
  const BufferId parameters = plan.add("p", "parameters", DType::f32, flat),
                 gradients = plan.add("p", "gradients", DType::f32, flat),
                 control = plan.add("p", "control", DType::f64, {kControlSize}),
                 rates = plan.add("p", "rates", DType::f64, {1});
  optimizer.plan(plan, both.cuda);
  const PlannedMemory memory(plan, both.cuda, MemoryKind::device);
  optimizer.bind(both.cuda, memory.arena());
  for (const BufferId id : {parameters, gradients, control, rates}) both.cuda.fill(memory[id], 1.0);
  both.cuda.synchronize();
  const int64_t before = kernels::launch_count;
  optimizer.step({.parameters = memory[parameters],
                  .gradients = memory[gradients],
                  .weights = {},
                  .control = memory[control],
                  .learning_rates = memory[rates]},
                 0);
  both.cuda.synchronize();
  return kernels::launch_count - before;
}

// Equal shapes go together: the number of layers does not matter.
TEST(CudaLaunches, OfAStepDoNotGrowWithTheLayers) {
  for (const OracleKind oracle : {OracleKind::newton_schulz, OracleKind::polar_express, OracleKind::sign})
    for (const double neuron_beta : {0.0, 0.9})
      for (const MomentumKind momentum : {MomentumKind::first, MomentumKind::polar_first}) {
        GroupConfig rule;
        rule.oracle.kind = oracle;
        rule.momentum.kind = momentum;
        if (oracle != OracleKind::sign && momentum == MomentumKind::first) rule.neuron_beta = neuron_beta;
        const int64_t two = launches_of_a_step(rule, 2);
        EXPECT_GT(two, 0);
        EXPECT_EQ(launches_of_a_step(rule, 7), two);
      }
}

}  // namespace
}  // namespace polar::cuda::test
