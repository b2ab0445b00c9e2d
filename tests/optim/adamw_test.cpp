// AdamW against torch.optim.AdamW: ten steps, parameters and moments (tools/reference/optimizers.py).
#include "harness.h"

namespace polar::testing {
namespace {

OptimizerConfig adamw(double lr, std::array<double, 2> betas, double eps, double decay) {
  GroupConfig group;
  group.match = {"*"};
  group.name = "adamw";
  group.lr = lr;
  group.betas = betas;
  group.eps = eps;
  group.weight_decay = decay;
  return {.groups = {group}};
}

template <class T>
void expect_as_torch(double tolerance) {
  const Golden golden("adamw.safetensors");
  const std::map<std::string, OptimizerConfig> cases = {
      {"plain", adamw(3e-3, {0.9, 0.95}, 1e-8, 0.0)},
      {"decay", adamw(1e-2, {0.8, 0.999}, 1e-6, 0.1)},
  };
  for (const auto& [name, config] : cases) {
    Harness<T> harness(config, golden.parameters());
    golden.run(harness);
    golden.compare(harness, name, tolerance, {{"adamw.m", ".m"}, {"adamw.v", ".v"}});
  }
}

TEST(AdamW, EqualsTorchInDouble) {
  expect_as_torch<double>(1e-13);
}
TEST(AdamW, EqualsTorchInSingle) {
  expect_as_torch<float>(1e-6);
}

// Members that are not neighbours in the flat buffer: each must still meet its own gradient and state.
TEST(AdamW, GroupsWithGapsBetweenTheirParameters) {
  OptimizerConfig config = adamw(0.1, {0.9, 0.95}, 1e-8, 0.0);
  config.groups.push_back(config.groups[0]);
  config.groups[0].match = {"a", "b", "d"};
  config.groups[1].lr = 0.0;
  Harness<double> split(config, {{"a", {3}}, {"b", {70}}, {"c", {5}}, {"d", {9}}});
  Harness<double> whole(adamw(0.1, {0.9, 0.95}, 1e-8, 0.0), {{"a", {3}}, {"b", {70}}, {"d", {9}}});
  for (const auto& [name, count] : std::map<std::string, int64_t>{{"a", 3}, {"b", 70}, {"d", 9}}) {
    for (Harness<double>* harness : {&split, &whole}) {
      harness->set(name, normal(1, count));
      harness->set_gradient(name, normal(2, count));
    }
  }
  split.set("c", normal(3, 5));
  split.set_gradient("c", normal(4, 5));
  for (int step = 0; step < 3; ++step) split.step(), whole.step();
  for (const char* name : {"a", "b", "d"}) {
    EXPECT_EQ(split.get(name), whole.get(name));
    EXPECT_EQ(split.state().at(std::string("adamw.m:") + name),
              whole.state().at(std::string("adamw.m:") + name));
  }
  EXPECT_EQ(split.get("c"), normal(3, 5));  // lr 0
}

}  // namespace
}  // namespace polar::testing
