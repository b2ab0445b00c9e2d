// What a report knows of a run: its metrics, its flattened configuration, its final numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "report/metrics.h"

namespace polar {

// (dotted key, value), in the order of the file: ("optimizer.groups.0.lr", "0.003"), ("data.x", "[1, 2]").
using FlatConfig = std::vector<std::pair<std::string, std::string>>;

struct RunData {
  std::string name;  // of the directory; the whole path where two directories have the same name
  std::filesystem::path directory;
  MetricsTable metrics;  // at least one line
  FlatConfig config;     // empty without config.yaml
  std::string sample;    // of generated text; empty without sample.txt
};

// Reads the directories. Errors: as write_report() says (html.h).
std::vector<RunData> load_runs(const std::vector<std::filesystem::path>& directories);

// Flattens a YAML file: maps and lists of maps by dotted keys, lists of scalars in one value.
// Errors: Error naming file and line.
FlatConfig flatten_yaml(const std::filesystem::path& file);

// A key whose value is not the same in all runs that have a configuration; one value a run, none if absent.
struct ConfigDifference {
  std::string key;
  std::vector<std::optional<std::string>> values;
};
// In the order in which the keys first occur. run.name and run.dir differ by nature and are left out.
std::vector<ConfigDifference> config_differences(std::span<const RunData> runs);

struct RunSummary {
  int64_t steps = 0;
  int64_t tokens = 0;
  std::optional<double> last_loss;
  std::optional<double> best_val_loss;
  int64_t best_val_step = 0;
  std::optional<double> last_val_loss;
  std::optional<double> val_perplexity;     // of the last evaluation
  std::optional<double> val_bits_per_byte;  // of the last evaluation
  std::optional<double> median_tokens_per_s;
  std::optional<double> median_mfu;
  int64_t skipped = 0;
  std::optional<double> seconds;  // from the first logged line to the last
};
RunSummary summarize(const MetricsTable& metrics);

// Weighted mean over both sides, weights falling by `weight` (in [0, 1)) a value: unlike a trailing mean it
// does not lag. Values that are not finite are passed over and come out as NaN.
inline constexpr double kSmoothing = 0.7;  // the weight of the picture, and with which the page opens
std::vector<double> smooth(std::span<const double> values, double weight);

}  // namespace polar
