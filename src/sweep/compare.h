// Several sweeps side by side: what each reaches at its best, how much its loss depends on the values tried,
// and what a step costs.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "sweep/results.h"

namespace polar::sweep {

struct Compared {
  std::string name;  // of the sweep's directory
  Definition definition;
  Results results;
};

// Reads DIR/sweep.json of each. Throws Error: exit code 2 if there is none.
std::vector<Compared> load_sweeps(const std::vector<std::filesystem::path>& directories);

// A neighbour of the best point in one grid of numbers, all other values the same.
struct Neighbour {
  std::string value;
  std::optional<double> penalty;  // its mean loss minus that of the best point; none if it is not ranked
  std::string why_not;            // "diverged", ... of a neighbour without a penalty
};

struct Sensitivity {
  std::string grid;
  std::string best;
  std::optional<Neighbour> below,
      above;  // none: the best value is the grid's end, a better one may lie beyond
};

struct Summary {
  std::optional<Ranked> best;              // the point ranked first
  std::vector<Sensitivity> sensitivities;  // of the best point, one a grid whose values are all numbers
  std::optional<double> step_seconds;      // median over the runs that are done, of the runs' medians
  std::optional<double>
      cpu_seconds;  // median over the runs that are done: start, training, evaluation, all threads
};
Summary summarize(const Compared& sweep);

// One row a sweep, by the best loss; median times of a step, and CPU times of
// a run, which depend less on what else the machine did, also relative to the first sweep given. What is not
// finished, and best values at the end of their grid, is said below.
std::string comparison_table(const std::vector<Compared>& sweeps);
// The same with every single loss, numbers with all digits.
std::string comparison_json(const std::vector<Compared>& sweeps);

}  // namespace polar::sweep
