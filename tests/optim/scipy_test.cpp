// The oracles that converge, against scipy.linalg.polar (tools/reference/baselines.py).
#include "matrices.h"

namespace polar::testing {
namespace {

struct OracleCase {
  OracleKind kind;
  int power;  // the error grows with the condition number to this power
};

// U's relative error is some eps kappa, or eps kappa^2 where the square is formed; ||A|| / sigma_min is 1e6
// for one of the matrices and below 60 for the others. H enters by its trace, <U, A>, where a
// wrong direction counts with its singular value.
TEST(Scipy, OraclesAgreeWithItsPolar) {
  const SafetensorsFile file(POLAR_GOLDEN_DIR "/optim/polar.safetensors");
  int compared = 0;
  for (const TensorInfo& info : file.tensors()) {
    if (!info.name.starts_with("a:")) continue;
    const std::string name = info.name.substr(2);
    const std::vector<double> a = golden_values(file, "a:" + name), u = golden_values(file, "u:" + name),
                              h = golden_values(file, "h:" + name);
    const int64_t short_side = std::min(info.shape[0], info.shape[1]);
    double trace = 0.0;
    for (int64_t i = 0; i < short_side; ++i) trace += h[static_cast<size_t>(i * (short_side + 1))];
    const bool ill = name == "condition_1e6";
    for (const OracleCase& c : {OracleCase{OracleKind::svd, 1},
                                {OracleKind::qdwh, 1},
                                {OracleKind::zolo_pd, 1},
                                {OracleKind::gram_eigh, 2}}) {
      OracleConfig config;
      config.kind = c.kind;
      config.steps = 0;  // qdwh: until it has converged
      if (c.kind == OracleKind::zolo_pd) config.steps = 2;
      const std::vector<double> got = run_oracle<double>(config, info.shape[0], info.shape[1], a);
      const double kappa = ill ? 1e6 : 60.0, unit = 100.0 * 2.2e-16;
      EXPECT_LE(relative_difference(got, u), unit * std::pow(kappa, c.power))
          << name << " " << static_cast<int>(c.kind);
      double nuclear = 0.0;
      for (size_t i = 0; i < a.size(); ++i) nuclear += got[i] * a[i];
      EXPECT_NEAR(nuclear / trace, 1.0, unit * std::pow(kappa, c.power - 1))
          << name << " " << static_cast<int>(c.kind);
      ++compared;
    }
  }
  EXPECT_EQ(compared, 24);
}

}  // namespace
}  // namespace polar::testing
