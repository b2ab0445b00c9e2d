// What a sweep is: the configurations of its points and its seeds. Kept in its directory, so that a later
// call goes on with the same one or says what is different.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "config/experiment.h"
#include "sweep/grid.h"

namespace polar::sweep {

struct Definition {
  std::string config;                  // the file that was named
  std::vector<std::string> overrides;  // for all points
  std::vector<Grid> grids;
  uint64_t first_seed = 0;              // run.seed of the configuration
  int64_t seeds = 1;                    // run.seed = first_seed, first_seed + 1, ...
  std::vector<Point> points;            // of the grids
  std::vector<Experiment> experiments;  // of the points, with the first seed

  size_t runs() const { return points.size() * static_cast<size_t>(seeds); }
};

// Reads every point's configuration. Errors (exit code 2): those of load_experiment(), parse_grids(); two
// points with the same configuration; nothing to rank by (no data.validation).
Definition define(const std::string& config, const std::vector<std::string>& overrides,
                  const std::vector<std::string>& grids, int64_t seeds);

// DIR/<point>, and in it config.yaml and the directories of its runs.
std::filesystem::path point_directory(const std::filesystem::path& sweep, const Point& point);
std::filesystem::path run_directory(const std::filesystem::path& sweep, const Point& point, uint64_t seed);
// What a run writes to the terminal, beside its directory.
std::filesystem::path output_file(const std::filesystem::path& sweep, const Point& point, uint64_t seed);

// One line a difference between the definition that the sweep's directory holds and this one: other values,
// other seeds, another configuration of a point. Empty if it holds none, or the same. With `extend`, what is
// only added (values of the same keys, seeds after the last) is no difference.
std::vector<std::string> differences(const std::filesystem::path& sweep, const Definition& definition,
                                     bool extend);

// Writes the configurations of the points. The definition itself stands in sweep.json (results.h).
void keep(const std::filesystem::path& sweep, const Definition& definition);

}  // namespace polar::sweep
