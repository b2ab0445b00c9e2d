// What an experiment of the lab has found: all runs of its settings on several draws, as JSON and as a table.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lab/suite.h"

namespace polar::lab {

struct Experiment {
  std::string problem, title, device, version;
  std::vector<std::pair<std::string, double>> sizes;  // by the names of the command's options
  Generator generator = Generator::polartrain;        // of all draws
  std::vector<Quantity> quantities;
  std::vector<int64_t> table_steps;
  struct Draw {
    uint64_t seed;
    double minimum;
    std::string minimum_by;
  };
  std::vector<Draw> draws;
  std::vector<std::vector<Result>> settings;  // a list of settings, each with a result a seed
};

// The values of a quantity over the seeds at a step: median (the lower of two in the middle), least, most.
struct Spread {
  double median, least, most;
};
// Nothing if a seed has none there: it diverged before.
std::optional<Spread> spread_at(const std::vector<Result>& seeds, int64_t step, size_t quantity);
// "drawn by PyTorch's CPU generator, seeds 1-3, 42"
std::string draw_text(const Experiment& experiment);
// The steps at which all seeds have values.
std::vector<int64_t> common_steps(const std::vector<Result>& seeds);

// Columns a run: "step" and one a quantity, five digits. Runs in the order of settings, then seeds.
nlohmann::ordered_json to_json(const Experiment& experiment);

// What several processes or machines have found, put together: the files of one problem with the same sizes,
// generator, settings and rates, each with draws of its own; files that name no generator are PolarTrain's.
// Errors (exit code 2) name the file and what is wrong with it.
Experiment joined(const std::vector<std::filesystem::path>& files);

// The gap of every setting at the table's steps, as texts: "1.2e-03", with "(3e-04 .. 9e-03)" where the seeds
// differ by more than a factor of ten, or "diverged".
struct Table {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
};
Table gap_table(const Experiment& experiment);
std::string to_markdown(const Table& table);

}  // namespace polar::lab
