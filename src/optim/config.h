// What the optimizer section of a configuration says; formulas in optim/matrix.h and optim/schedule.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace polar {

enum class MomentumKind { first, polar_first, heavy_ball, none };
enum class OracleKind { newton_schulz, polar_express, qdwh, zolo_pd, gram_eigh, svd };
enum class ScaleKind { nuclear, rms_match, spectral, jordan, none };
enum class GroupType { adamw, matrix };
enum class ScheduleKind { constant, linear, cosine, wsd, wsd_linear };

struct MomentumConfig {
  MomentumKind kind = MomentumKind::first;
  double beta = 0.95;
  bool nesterov = false;

  bool operator==(const MomentumConfig&) const = default;
};

struct OracleConfig {
  OracleKind kind = OracleKind::polar_express;
  int64_t steps = 5;  // of newton_schulz, polar_express and qdwh; 0: as many as qdwh needs
  // newton_schulz: "jordan", "quintic5", "classical_quintic", "classical_cubic" or an own list (a, b, c).
  std::string coefficients = "jordan";
  std::vector<std::array<double, 3>> custom;
  double lower_bound = 1e-3;                            // polar_express: of the normalised singular values
  double cushion = 0.02407327424182761, safety = 1.01;  // polar_express: see optim/polynomials.h
  double condition = 0.0;  // qdwh, zolo_pd: largest that is made for; 0: 1 / epsilon of the matrices' format
  // "full" or "reduced" (PolarPrecision of ops/ops.h), or "auto": reduced where activations are bf16.
  std::string products = "auto";

  bool operator==(const OracleConfig&) const = default;
};

struct ScaleConfig {
  ScaleKind kind = ScaleKind::nuclear;
  double alpha = 1.0;   // nuclear: <M, U>^alpha
  double factor = 1.0;  // a constant on top

  bool operator==(const ScaleConfig&) const = default;
};

struct ScheduleConfig {
  ScheduleKind kind = ScheduleKind::constant;
  int64_t warmup_steps = 0;
  double decay_fraction = 0.4;  // wsd, wsd_linear: share of all steps over which the rate falls
  double final = 0.0;           // share of lr at the last step

  bool operator==(const ScheduleConfig&) const = default;
};

// One group of parameters. `type: muon` and `type: polargrad` in YAML name sets of the matrix fields:
//   polargrad: momentum first (beta .95), polar_express (5), nuclear alpha 1
//   muon:      momentum first (beta .95) with Nesterov, newton_schulz jordan (5), scale jordan
struct GroupConfig {
  std::vector<std::string> match;  // glob patterns over parameter names: * and ?
  std::string name;                // the YAML type: "adamw", "muon", "polargrad", "matrix"
  GroupType type = GroupType::adamw;
  double lr = 1.0e-3;
  double weight_decay = 0.0;
  std::array<double, 2> betas{0.9, 0.95};  // adamw
  double eps = 1.0e-8;                     // adamw
  MomentumConfig momentum;                 // matrix
  OracleConfig oracle;
  ScaleConfig scale;
  std::optional<ScheduleConfig> schedule;  // else the run's

  bool operator==(const GroupConfig&) const = default;
};

struct OptimizerConfig {
  std::vector<GroupConfig> groups;
  double clip_norm = 1.0;  // 0: no clipping

  bool operator==(const OptimizerConfig&) const = default;
};

}  // namespace polar
