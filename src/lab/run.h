// Runs of optimizers on a problem of the lab, through the very optimizers that train models.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
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
  Problem::Measure measure;
};

struct Result {
  Setting setting;
  uint64_t seed = 0;
  std::vector<Point> points;  // the first before any step
  bool diverged = false;      // the gap was no number any more, or grew a thousandfold: stopped there
};

// `every`: steps between points. `progress` (optional) is called with (step, gap) at each.
Result run(Ops& ops, Problem& problem, const Setting& setting, int64_t steps, int64_t every, uint64_t seed,
           const std::function<void(int64_t, double)>& progress = {});

// The settings of the paper's section 6.1, in the order of its figures.
std::vector<Setting> quadratic_suite();

}  // namespace polar::lab
