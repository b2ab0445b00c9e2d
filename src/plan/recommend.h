// Recommended settings for hardware that is described (config/hardware.h): for each number of ranks the
// fastest of those that fit, over batch.micro_sequences, train.recompute, distributed.sharding and
// distributed.gradient_dtype; and the largest number of ranks that is worth it. Sharded gradients are
// recommended only where they make a step faster by kWorthSharding, and gradients in bf16, which are rounded,
// by kWorthRounding, or where nothing else fits.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/simulate.h"

namespace polar {

inline constexpr double kWorthSharding = 0.01, kWorthRounding = 0.05;  // of a step

struct Scaling {
  int ranks = 1;
  std::string refusal;                   // why this number cannot be: else there is a simulation
  std::optional<Simulation> configured;  // as the configuration says, whether it fits or not
  std::optional<Simulation> best;        // nothing if nothing fits
  // Of `best`: its tokens a second and rank over those of the smallest number of ranks that fits.
  double efficiency = 0.0;
};

// In the order of `ranks`, which ascend. Errors that concern one number of ranks become its refusal.
std::vector<Scaling> simulate_all(const Experiment& experiment, const Ops& ops, const Hardware& hardware,
                                  const std::vector<int>& ranks);

// The largest number of ranks whose efficiency is at least this; nothing if nothing fits.
const Scaling* largest_worth_it(const std::vector<Scaling>& all, double efficiency);

// The keys to set, as YAML.
std::string settings_yaml(const Simulation& simulation, const Experiment& experiment);

}  // namespace polar
