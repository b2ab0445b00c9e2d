#include "lab/suite.h"

#include <fmt/format.h>

#include "optim/oracle.h"

namespace polar::lab {
namespace {

GroupConfig matrix_group(double lr, const OracleConfig& oracle, const MomentumConfig& momentum,
                         ScaleKind scale) {
  GroupConfig group;
  group.match = {"*"};
  group.name = "matrix";
  group.type = GroupType::matrix;
  group.lr = lr;
  group.momentum = momentum;
  group.oracle = oracle;
  group.scale.kind = scale;
  return group;
}

OracleConfig oracle_of(OracleKind kind, int64_t steps) {
  OracleConfig oracle;
  oracle.kind = kind;
  oracle.steps = steps;
  oracle.products = "full";
  return oracle;
}

// What the authors call QDWH: two steps from l = epsilon, behind a normalisation by sqrt(||M||_1 ||M||_inf),
// and a Newton-Schulz step. It is not converged, so all three matter.
OracleConfig qdwh() {
  OracleConfig oracle = oracle_of(OracleKind::qdwh, 2);
  oracle.refine = oracle.norm_bound = true;
  return oracle;
}
OracleConfig newton_schulz() {
  return oracle_of(OracleKind::newton_schulz, 5);
}
OracleConfig zolo_pd() {
  return oracle_of(OracleKind::zolo_pd, 0);
}
OracleConfig exact() {
  return oracle_of(OracleKind::svd, 0);
}

GroupConfig polargrad(double lr, const OracleConfig& oracle) {
  return matrix_group(lr, oracle, {MomentumKind::none, 0.0, false}, ScaleKind::nuclear);
}
GroupConfig polar_first(double lr, double beta) {
  return matrix_group(lr, qdwh(), {MomentumKind::polar_first, beta, false}, ScaleKind::nuclear);
}
GroupConfig momentum_first(double lr, double beta) {
  return matrix_group(lr, qdwh(), {MomentumKind::first, beta, false}, ScaleKind::nuclear);
}
// As the paper runs it: an average with Nesterov, no factor for the shape.
GroupConfig muon(double lr, const OracleConfig& oracle) {
  return matrix_group(lr, oracle, {MomentumKind::first, 0.95, true}, ScaleKind::none);
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

// Without decay and with it.
Setting constant(const std::string& name, const GroupConfig& group) {
  return {.name = name, .group = group};
}
Setting reference(const std::string& name, double lr) {
  return {.name = name, .group = adam(lr), .reference = true};
}

std::string text_of(const MomentumConfig& momentum) {
  const char* kind = momentum.kind == MomentumKind::first         ? "first"
                     : momentum.kind == MomentumKind::polar_first ? "polar_first"
                                                                  : "heavy_ball";
  return fmt::format("momentum {} {:g}{}, ", kind, momentum.beta, momentum.nesterov ? " nesterov" : "");
}

}  // namespace

Suite quadratic_suite() {
  const auto decaying = [](const std::string& name, const GroupConfig& group) {
    return Setting{.name = name + ", decay", .group = group, .decay = 0.99};
  };
  return {.problem = "quadratic",
          .title = "f(X) = 1/2 ||A X B - C||_F^2 (section 6.1)",
          .steps = 4000,
          .every = 50,
          .table_steps = {100, 500, 1000, 2000, 4000},
          .settings = {constant("PolarGrad, QDWH", polargrad(4e-8, qdwh())),
                       decaying("PolarGrad, QDWH", polargrad(4.75e-8, qdwh())),
                       constant("PolarGrad, ZOLO-PD", polargrad(3e-8, zolo_pd())),
                       constant("PolarGrad, exact", polargrad(3e-8, exact())),
                       constant("PolarGrad, polar first", polar_first(4e-7, 0.95)),
                       decaying("PolarGrad, polar first", polar_first(5e-7, 0.95)),
                       constant("PolarGrad, momentum first", momentum_first(2e-7, 0.9)),
                       decaying("PolarGrad, momentum first", momentum_first(2.5e-7, 0.9)),
                       constant("Muon, NS5", muon(0.1, newton_schulz())),
                       constant("Muon, QDWH", muon(0.1, qdwh())), decaying("Muon, QDWH", muon(0.05, qdwh())),
                       constant("Muon, ZOLO-PD", muon(0.1, zolo_pd())), constant("Adam", adam(0.05)),
                       decaying("Adam", adam(0.05)), reference("Newton", 0.25)}};
}

Suite logistic_suite() {
  const auto decaying = [](const std::string& name, const GroupConfig& group) {
    return Setting{.name = name + ", decay", .group = group, .decay = 0.95};
  };
  return {.problem = "logistic",
          .title = "f(X) = sum softplus(-C .* (A X B)), mini-batches (section 6.2)",
          .steps = 1500,
          .every = 50,
          .table_steps = {100, 500, 1000, 1500},
          .settings = {constant("PolarSGD, QDWH", polargrad(1.5e-7, qdwh())),
                       decaying("PolarSGD, QDWH", polargrad(2.5e-7, qdwh())),
                       constant("PolarSGD, polar first", polar_first(2.5e-7, 0.95)),
                       decaying("PolarSGD, polar first", polar_first(2.5e-7, 0.95)),
                       constant("PolarSGD, momentum first", momentum_first(2.5e-7, 0.9)),
                       decaying("PolarSGD, momentum first", momentum_first(2.5e-7, 0.9)),
                       constant("Muon, NS5", muon(0.1, newton_schulz())),
                       constant("Muon, QDWH", muon(0.1, qdwh())), decaying("Muon, QDWH", muon(0.2, qdwh())),
                       constant("Adam", adam(5e-3)), decaying("Adam", adam(1e-2))}};
}

Suite completion_suite() {
  const auto decaying = [](const std::string& name, const GroupConfig& group) {
    return Setting{.name = name + ", decay", .group = group, .decay = 0.95};
  };
  return {.problem = "completion",
          .title = "f(X, Y) = ||mask .* (X Y^T - M)||_F^2 / |mask| (section 6.3)",
          .steps = 1000,
          .every = 20,
          .table_steps = {20, 50, 100, 200, 500, 1000},
          .settings = {constant("PolarGrad, QDWH", polargrad(50, qdwh())),
                       decaying("PolarGrad, QDWH", polargrad(50, qdwh())),
                       constant("PolarGrad, polar first", polar_first(100, 0.5)),
                       decaying("PolarGrad, polar first", polar_first(100, 0.5)),
                       constant("PolarGrad, momentum first", momentum_first(50, 0.5)),
                       decaying("PolarGrad, momentum first", momentum_first(50, 0.5)),
                       constant("Muon, NS5", muon(0.25, newton_schulz())),
                       constant("Muon, QDWH", muon(0.25, qdwh())), decaying("Muon, QDWH", muon(0.25, qdwh())),
                       constant("Adam", adam(5e-2)), decaying("Adam", adam(5e-2)),
                       reference("Alternating gradient descent", 50)}};
}

std::string rule_of(const Setting& setting) {
  const GroupConfig& group = setting.group;
  if (setting.reference) return "reference method";
  if (group.type == GroupType::adamw)
    return fmt::format("Adam, betas {:g} and {:g}", group.betas[0], group.betas[1]);
  const std::string momentum = group.momentum.kind == MomentumKind::none ? "" : text_of(group.momentum);
  return fmt::format("{}{}, scale {}", momentum, Oracle(group.oracle).text(),
                     group.scale.kind == ScaleKind::nuclear ? "nuclear" : "none");
}

}  // namespace polar::lab
