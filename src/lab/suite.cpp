// The settings of the experiments in the PolarGrad paper (arXiv 2505.21799), section 6.
#include "lab/run.h"

namespace polar::lab {
namespace {

GroupConfig matrix_group(double lr, OracleKind oracle, int64_t steps, MomentumConfig momentum,
                         ScaleKind scale) {
  GroupConfig group;
  group.match = {"*"};
  group.name = "matrix";
  group.type = GroupType::matrix;
  group.lr = lr;
  group.momentum = momentum;
  group.oracle.kind = oracle;
  group.oracle.steps = steps;
  group.oracle.products = "full";
  group.scale.kind = scale;
  return group;
}

GroupConfig polargrad(double lr, OracleKind oracle, int64_t steps = 0,
                      MomentumConfig momentum = {MomentumKind::none, 0.0, false}) {
  return matrix_group(lr, oracle, steps, momentum, ScaleKind::nuclear);
}

// As the paper runs it: an average with Nesterov, no factor for the shape.
GroupConfig muon(double lr, OracleKind oracle = OracleKind::newton_schulz, int64_t steps = 5) {
  return matrix_group(lr, oracle, steps, {MomentumKind::first, 0.95, true}, ScaleKind::none);
}

GroupConfig adam(double lr) {
  GroupConfig group;
  group.match = {"*"};
  group.name = "adamw";
  group.type = GroupType::adamw;
  group.lr = lr;
  group.betas = {0.9, 0.999};
  return group;
}

MomentumConfig momentum(MomentumKind kind, double beta) {
  return {kind, beta, false};
}

}  // namespace

std::vector<Setting> quadratic_suite() {
  const auto qdwh = OracleKind::qdwh;
  const auto polar_first = MomentumKind::polar_first, first = MomentumKind::first;
  std::vector<Setting> all{
      {.name = "PolarGrad, QDWH of 2 steps", .group = polargrad(4e-8, qdwh, 2)},
      {.name = "PolarGrad, QDWH of 2 steps, decay", .group = polargrad(4.75e-8, qdwh, 2), .decay = 0.99},
      {.name = "PolarGrad, ZOLO-PD", .group = polargrad(3e-8, OracleKind::zolo_pd)},
      {.name = "PolarGrad, exact", .group = polargrad(3e-8, OracleKind::svd)},
      {.name = "PolarGrad, polar first", .group = polargrad(4e-7, qdwh, 2, momentum(polar_first, 0.95))},
      {.name = "PolarGrad, polar first, decay",
       .group = polargrad(5e-7, qdwh, 2, momentum(polar_first, 0.95)),
       .decay = 0.99},
      {.name = "PolarGrad, momentum first", .group = polargrad(2e-7, qdwh, 2, momentum(first, 0.9))},
      {.name = "PolarGrad, momentum first, decay",
       .group = polargrad(2.5e-7, qdwh, 2, momentum(first, 0.9)),
       .decay = 0.99},
      {.name = "Muon", .group = muon(0.1)},
      {.name = "Muon, decay", .group = muon(0.05), .decay = 0.99},
      {.name = "Muon, QDWH of 2 steps, decay", .group = muon(0.05, qdwh, 2), .decay = 0.99},
      {.name = "Adam", .group = adam(0.05)},
      {.name = "Adam, decay", .group = adam(0.05), .decay = 0.99},
      {.name = "Newton", .group = adam(0.25), .reference = true}};
  // Two steps from a condition that a gradient of these sizes has: see optim/rational.h.
  for (Setting& setting : all)
    if (setting.group.oracle.kind == qdwh) setting.group.oracle.condition = 3e5;
  return all;
}

}  // namespace polar::lab
