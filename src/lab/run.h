// Runs of optimizers on a problem of the lab, through the very optimizers that train models.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "lab/problem.h"
#include "optim/config.h"

namespace polar::lab {

struct Setting {
  std::string name;    // "PolarGrad, QDWH"
  GroupConfig group;   // its lr is that of the first steps
  double decay = 1.0;  // lr is multiplied by it every `decay_every` steps
  int64_t decay_every = 25;
  bool reference = false;  // Problem::reference_step instead of an optimizer
};

struct Point {
  int64_t step = 0;  // steps done
  double lr = 0.0;
  std::vector<double> values;  // of Problem::quantities
  double gap() const { return values.front(); }
};

struct Result {
  Setting setting;
  uint64_t seed = 0;
  std::vector<Point> points;  // the first before any step
  bool diverged = false;      // the gap was no number any more, or grew a thousandfold: stopped there
};

// The steps at which is measured: every `every`th, the last, and ten times as often until 5 * every.
bool is_measured(int64_t step, int64_t every, int64_t steps);

// `progress` (optional) is called with (step, gap) at each point. Error (exit code 2) for a reference where
// the problem has none.
Result run(Ops& ops, Problem& problem, const Setting& setting, int64_t steps, int64_t every, uint64_t seed,
           const std::function<void(int64_t, double)>& progress = {});

}  // namespace polar::lab
