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
  std::optional<Experiment> best = {};  // the configuration of the point ranked first
  std::string unknown = "";             // why there is none
};

// Reads DIR/sweep.json of each, and DIR/<point>/config.yaml of its best point. Throws Error: exit code 2 if
// there is no sweep.json.
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

// What makes that losses cannot be compared: the keys of model and data, the sequences of the evaluation, the
// weights that training began with and its tokens, where the best points of two sweeps differ in them; and a
// sweep of which that is unknown. "adamw -> muon: data.sequence_length: 512 -> 256", each sweep against the
// first.
std::vector<std::string> incomparable(const std::vector<Compared>& sweeps);

// One row a sweep, by the best loss; median times of a step, and CPU times of
// a run, which depend less on what else the machine did, also relative to the first sweep given. What is not
// finished, best values at the end of their grid, and what is incomparable() is said below.
std::string comparison_table(const std::vector<Compared>& sweeps);
// The same with every single loss, numbers with all digits.
std::string comparison_json(const std::vector<Compared>& sweeps);

}  // namespace polar::sweep
