// What the optimizer section of a configuration says; formulas in optim/matrix.h and optim/schedule.h.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace polar {

enum class MomentumKind { first, polar_first, heavy_ball, none, lion };
enum class OracleKind { newton_schulz, polar_express, qdwh, zolo_pd, gram_eigh, svd, sign, identity };
enum class ScaleKind { nuclear, rms_match, spectral, jordan, none };
enum class GroupType { adamw, matrix, shampoo, soap };
enum class ScheduleKind { constant, linear, cosine, wsd, wsd_linear };

struct MomentumConfig {
  MomentumKind kind = MomentumKind::first;
  double beta = 0.95;
  bool nesterov = false;
  double interpolation = 0.9;  // lion: of the momentum before the step in what the oracle sees
  // Over the first warmup_steps steps beta goes linearly from warmup_beta to beta.
  int64_t warmup_steps = 0;
  double warmup_beta = 0.85;

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
  std::string preconditioning = "none";  // none | aol, of the polynomial kinds (Ops::polar_precondition)
  bool refine = false;                   // qdwh: a cubic Newton-Schulz step behind the others, as in JAX
  // qdwh: divides by sqrt(||M||_1 ||M||_inf) instead of ||M||_F, as in JAX. Made by the host, which waits for
  // it: for the lab, which repeats what others have measured with unconverged QDWH; not in configurations.
  bool norm_bound = false;
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

// One group of parameters. Some types in YAML name sets of the matrix fields:
//   polargrad: momentum first (beta .95), polar_express (5), nuclear alpha 1
//   muon:      momentum first (beta .95) with Nesterov, newton_schulz jordan (5), scale jordan
//   sgd:       momentum heavy_ball (beta .9), oracle identity, no scale
//   signsgd:   momentum none, oracle sign, nuclear alpha 1 (which is ||G||_1); scale none: not normalised
//   lion:      momentum lion (interpolation .9, beta .99), oracle sign, no scale
struct GroupConfig {
  std::vector<std::string> match;  // glob patterns over parameter names: * and ?
  std::string name;                // the YAML type: "adamw", "muon", "polargrad", "matrix", ...
  GroupType type = GroupType::adamw;
  double lr = 1.0e-3;
  double weight_decay = 0.0;
  std::array<double, 2> betas{0.9, 0.95};  // adamw, shampoo (whose second may be 1: a sum), soap
  double eps = 1.0e-8;                     // adamw, soap; shampoo: added to the eigenvalues
  int64_t precondition_frequency = 10;     // shampoo, soap: applied steps from one basis to the next
  int64_t max_dimension = 10000;           // shampoo, soap: a longer side is left as it is
  MomentumConfig momentum;                 // matrix
  OracleConfig oracle;
  ScaleConfig scale;
  double neuron_beta = 0.0;     // matrix: NorMuon's second moment (Ops::normalize_neurons); 0: none
  bool per_head = false;        // matrix: q_proj and k_proj one head at a time
  bool cautious_decay = false;  // decay only where the step goes towards zero too (arXiv 2510.12402)
  std::optional<ScheduleConfig> schedule;  // else the run's

  bool operator==(const GroupConfig&) const = default;
};

struct OptimizerConfig {
  std::vector<GroupConfig> groups;
  double clip_norm = 1.0;  // 0: no clipping

  bool operator==(const OptimizerConfig&) const = default;
};

}  // namespace polar
