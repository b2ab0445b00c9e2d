// Muon against torch.optim.Muon with Newton-Schulz in full precision: ten steps, all conventions of the scale
// (tools/reference/optimizers.py).
#include "harness.h"

namespace polar::testing {
namespace {

OptimizerConfig muon(ScaleKind scale, bool nesterov, double decay) {
  return one_matrix_group([&](GroupConfig& group) {
    group.momentum = {MomentumKind::first, 0.95, nesterov};
    group.oracle.kind = OracleKind::newton_schulz;
    group.oracle.coefficients = "jordan";
    group.oracle.steps = 5;
    group.scale.kind = scale;
    group.weight_decay = decay;
  });
}

template <class T>
void expect_as_torch(double tolerance) {
  const Golden golden("muon.safetensors");
  const std::map<std::string, OptimizerConfig> cases = {
      {"jordan_nesterov", muon(ScaleKind::jordan, true, 0.1)},
      {"jordan", muon(ScaleKind::jordan, false, 0.0)},
      {"rms_match_nesterov", muon(ScaleKind::rms_match, true, 0.0)},
      {"rms_match", muon(ScaleKind::rms_match, false, 0.1)},
      {"spectral_nesterov", muon(ScaleKind::spectral, true, 0.1)},
  };
  for (const auto& [name, config] : cases) {
    Harness<T> harness(config, golden.parameters());
    golden.run(harness);
    golden.compare(harness, name, tolerance, {{"matrix.momentum", ".momentum"}});
  }
}

TEST(Muon, EqualsTorchInDouble) {
  expect_as_torch<double>(1e-10);
}
TEST(Muon, EqualsTorchInSingle) {
  expect_as_torch<float>(1e-5);
}

// A step of Muon does not know how large the gradient was.
TEST(Muon, IsHomogeneousOfDegreeZero) {
  std::vector<std::vector<double>> updates;
  for (const double c : {1.0, 1024.0}) {
    Harness<double> harness(muon(ScaleKind::jordan, true, 0.0), {{"w", {9, 5}}});
    harness.set_gradient("w", normal(5, 45, c));
    harness.step();
    updates.push_back(harness.get("w"));
  }
  EXPECT_LE(relative_difference(updates[1], updates[0]), 1e-6);  // the 1e-7 added to the norm
  EXPECT_GT(norm(updates[0]), 0.01);
}

}  // namespace
}  // namespace polar::testing
