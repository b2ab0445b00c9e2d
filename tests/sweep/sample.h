// Sweeps and results that are known, without runs.
#pragma once

#include "sweep/results.h"

namespace polar::sweep {

inline RunResult done(uint64_t seed, double loss) {
  RunResult run;
  run.seed = seed;
  run.state = State::done;
  run.val_loss = loss;
  run.steps = 10;
  return run;
}

// Diverged or failed.
inline RunResult other(uint64_t seed, State state, const std::string& message = "what it said") {
  RunResult run;
  run.seed = seed;
  run.state = state;
  run.steps = 7;
  run.exit_code = state == State::diverged ? 4 : 1;
  run.message = message;
  return run;
}

inline Definition definition(const std::vector<std::string>& grids, int64_t seeds = 1,
                             uint64_t first_seed = 1) {
  Definition result;
  result.config = "c.yaml";
  result.grids = parse_grids(grids);
  result.points = product(result.grids);
  result.experiments.resize(result.points.size());
  result.first_seed = first_seed;
  result.seeds = seeds;
  return result;
}

}  // namespace polar::sweep
