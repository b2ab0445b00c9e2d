#include "optim/oracle.h"

#include <utility>

#include "base/error.h"

namespace polar {
namespace {

constexpr double kNormEps = 1e-7;              // added to the norm: a zero matrix stays zero
constexpr double kPolarExpressSafety = 1.01;   // for rounding: singular values may exceed 1 a little
constexpr int64_t kConvergedAfter = 8;         // steps: what comes later is the classical quintic

std::vector<Quintic> newton_schulz(const OracleConfig& config) {
  std::vector<Quintic> list = config.coefficients == "custom" ? config.custom : named_quintics(config.coefficients);
  if (list.empty())
    fail_usage("oracle.coefficients: found an empty list, expected at least one [a, b, c]");
  list.resize(static_cast<size_t>(config.steps), list.back());
  return list;
}

// The authors' use of their list: every polynomial stretched but the one that has converged.
std::vector<Quintic> polar_express(const OracleConfig& config) {
  if (!(config.lower_bound > 0.0 && config.lower_bound < 1.0))
    fail_usage("oracle.lower_bound: found {}, expected a number between 0 and 1", config.lower_bound);
  std::vector<Quintic> list =
      polar_express_quintics({.lower_bound = config.lower_bound, .steps = config.steps});
  const Quintic classical{1.875, -1.25, 0.375};
  for (Quintic& p : list)
    if (std::abs(p[0] - classical[0]) > 1e-8) p = stretched(p, kPolarExpressSafety);
  return list;
}

}  // namespace
}  // namespace polar
