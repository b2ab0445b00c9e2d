// Lion, sign descent and SGD, which are matrix rules with the oracles `sign` and `identity`, against
// pytorch_optimizer and torch: ten steps (tools/reference/baselines.py).
#include "config/reader.h"
#include "harness.h"

namespace polar::testing {
namespace {

struct Case {
  std::string file, name;
  GroupConfig group;
};

GroupConfig rule(const char* type, double lr, const std::function<void(GroupConfig&)>& change = {}) {
  GroupConfig group = group_defaults(type);
  group.match = {"*"};
  group.lr = lr;
  if (change) change(group);
  return group;
}

GroupConfig lion(double interpolation, double beta, double decay) {
  return rule("lion", 0.01, [&](GroupConfig& group) {
    group.momentum.interpolation = interpolation;
    group.momentum.beta = beta;
    group.weight_decay = decay;
  });
}

std::vector<Case> cases() {
  return {{"lion", "plain", lion(0.9, 0.99, 0.0)},
          {"lion", "decay", lion(0.95, 0.98, 0.1)},
          {"sign", "plain",
           rule("signsgd", 0.01,
                [](GroupConfig& group) {
                  group.scale.kind = ScaleKind::none;
                  group.weight_decay = 0.1;
                })},
          {"sign", "momentum",
           rule("signsgd", 0.01,
                [](GroupConfig& group) {
                  group.scale.kind = ScaleKind::none;
                  group.momentum = {.kind = MomentumKind::first, .beta = 0.9};
                })},
          {"sign", "norm", rule("signsgd", 0.001)},
          {"sgd", "plain", rule("sgd", 0.01)},
          {"sgd", "nesterov", rule("sgd", 0.01, [](GroupConfig& group) { group.momentum.nesterov = true; })}};
}

template <class T>
void expect_as_others(double tolerance) {
  for (const Case& c : cases()) {
    const Golden golden(c.file + ".safetensors");
    Harness<T> harness(OptimizerConfig{.groups = {c.group}}, golden.parameters());
    golden.run(harness);
    std::map<std::string, std::string> states;
    if (c.group.momentum.kind != MomentumKind::none) states["matrix.momentum"] = ".momentum";
    golden.compare(harness, c.name, tolerance, states);
  }
}

TEST(Elementwise, EqualOtherCodeInDouble) {
  expect_as_others<double>(1e-13);
}
TEST(Elementwise, EqualOtherCodeInSingle) {
  expect_as_others<float>(1e-6);
}

}  // namespace
}  // namespace polar::testing
