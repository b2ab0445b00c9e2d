#include "sweep/definition.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "sweep/results.h"

namespace polar::sweep {
namespace {

namespace fs = std::filesystem;

// Without what is no part of the result, and differs between runs by nature.
Experiment neutral(Experiment experiment) {
  const RunConfig defaults;
  experiment.run.name = defaults.name;
  experiment.run.dir = defaults.dir;
  experiment.run.threads = defaults.threads;
  experiment.data.prefetch_batches = DataConfig().prefetch_batches;
  experiment.checkpoint = {};
  experiment.log = {};
  return experiment;
}

std::string key_of(const Grid& grid) {
  return fmt::format("{}", fmt::join(grid.keys, "+"));
}

void check_different(const Definition& definition) {
  std::map<std::string, std::string> names;  // by configuration
  for (size_t i = 0; i < definition.points.size(); ++i) {
    const auto [other, fresh] =
        names.emplace(to_yaml(neutral(definition.experiments[i])), definition.points[i].name);
    if (!fresh)
      fail_usage("the points {} and {} of the grid are the same configuration; take one of them out",
                 other->second, definition.points[i].name);
  }
}

void compare_grids(const std::vector<Grid>& before, const std::vector<Grid>& now, bool extend,
                   std::vector<std::string>& result) {
  std::map<std::string, std::vector<std::string>> old;
  for (const Grid& grid : before) old[key_of(grid)] = grid.values;
  for (const Grid& grid : now) {
    const auto found = old.find(key_of(grid));
    if (found == old.end()) {
      result.push_back(fmt::format("--grid {}: new", key_of(grid)));
      continue;
    }
    const std::set<std::string> was(found->second.begin(), found->second.end());
    const std::set<std::string> is(grid.values.begin(), grid.values.end());
    const bool kept = std::includes(is.begin(), is.end(), was.begin(), was.end());
    if (was != is && !(extend && kept))
      result.push_back(fmt::format("--grid {}: {} -> {}", key_of(grid), fmt::join(found->second, ", "),
                                   fmt::join(grid.values, ", ")));
    old.erase(found);
  }
  for (const auto& [key, values] : old)
    result.push_back(fmt::format("--grid {}: {} -> none", key, fmt::join(values, ", ")));
  // The points are named in this order.
  const bool same_order = std::equal(before.begin(), before.end(), now.begin(), now.end(),
                                     [](const Grid& a, const Grid& b) { return key_of(a) == key_of(b); });
  if (result.empty() && !same_order)
    result.push_back(fmt::format("the order of the grids: {} came first", key_of(before.front())));
}

}  // namespace

Definition define(const std::string& config, const std::vector<std::string>& overrides,
                  const std::vector<std::string>& grids, int64_t seeds) {
  Definition definition{.config = config,
                        .overrides = overrides,
                        .grids = parse_grids(grids),
                        .first_seed = 0,
                        .seeds = seeds,
                        .points = {},
                        .experiments = {}};
  definition.points = product(definition.grids);
  for (const Point& point : definition.points) {
    std::vector<std::string> all = overrides;
    all.insert(all.end(), point.overrides.begin(), point.overrides.end());
    definition.experiments.push_back(load_experiment(config, all));
  }
  definition.first_seed = definition.experiments.front().run.seed;
  if (definition.experiments.front().data.validation.empty())
    fail_usage("{}: a sweep ranks by the validation loss, but data.validation is empty", config);
  check_different(definition);
  return definition;
}

fs::path point_directory(const fs::path& sweep, const Point& point) {
  return sweep / point.name;
}

fs::path run_directory(const fs::path& sweep, const Point& point, uint64_t seed) {
  return point_directory(sweep, point) / fmt::format("seed-{}", seed);
}

fs::path output_file(const fs::path& sweep, const Point& point, uint64_t seed) {
  return point_directory(sweep, point) / fmt::format("seed-{}.out", seed);
}

std::vector<std::string> differences(const fs::path& sweep, const Definition& definition, bool extend) {
  std::vector<std::string> result;
  if (!fs::exists(sweep / kSweepFile)) return result;
  const Definition before = read_definition(sweep);
  compare_grids(before.grids, definition.grids, extend, result);
  if (before.seeds != definition.seeds && !(extend && before.seeds < definition.seeds))
    result.push_back(fmt::format("--seeds: {} -> {}", before.seeds, definition.seeds));
  for (size_t i = 0; i < definition.points.size(); ++i) {
    const fs::path file = point_directory(sweep, definition.points[i]) / "config.yaml";
    if (!fs::exists(file)) continue;
    const std::vector<std::string> keys =
        polar::differences(neutral(load_experiment(file, {})), neutral(definition.experiments[i]));
    if (keys.empty()) continue;
    result.insert(result.end(), keys.begin(), keys.end());
    break;  // the others differ in the same keys
  }
  return result;
}

void keep(const fs::path& sweep, const Definition& definition) {
  for (size_t i = 0; i < definition.points.size(); ++i) {
    const fs::path directory = point_directory(sweep, definition.points[i]);
    std::error_code error;
    fs::create_directories(directory, error);
    if (error) fail("cannot make the directory {}: {}", directory.string(), error.message());
    Experiment experiment = definition.experiments[i];
    experiment.run.name = definition.points[i].name;
    experiment.run.dir = (directory / "run").string();
    write_file_atomically(directory / "config.yaml", to_yaml(experiment));
  }
}

}  // namespace polar::sweep
