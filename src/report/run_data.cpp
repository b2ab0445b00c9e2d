#include "report/run_data.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"
#include "base/file.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

std::string scalar_text(const YAML::Node& node) {
  return node.IsNull() ? "null" : node.Scalar();
}

bool holds_only_scalars(const YAML::Node& list) {
  return std::all_of(list.begin(), list.end(), [](const YAML::Node& item) { return !item.IsMap(); });
}

std::string list_text(const YAML::Node& list) {
  std::string text;
  for (const YAML::Node& item : list)
    text += (text.empty() ? "" : ", ") + (item.IsSequence() ? list_text(item) : scalar_text(item));
  return fmt::format("[{}]", text);
}

void flatten(const YAML::Node& node, const std::string& key, FlatConfig& flat) {
  const std::string prefix = key.empty() ? "" : key + ".";
  if (node.IsMap()) {
    for (const auto& entry : node) flatten(entry.second, prefix + entry.first.Scalar(), flat);
  } else if (node.IsSequence() && !holds_only_scalars(node)) {
    for (size_t i = 0; i < node.size(); ++i) flatten(node[i], prefix + std::to_string(i), flat);
  } else {
    flat.emplace_back(key, node.IsSequence() ? list_text(node) : scalar_text(node));
  }
}

RunData load_run(const fs::path& directory) {
  if (!fs::is_directory(directory))
    fail_usage("{}: expected the directory of a training run, found {}", directory.string(),
               fs::exists(directory) ? "a file" : "nothing");
  RunData run;
  run.directory = directory;
  const fs::path metrics = directory / "metrics.jsonl";
  if (!fs::exists(metrics))
    fail_usage("{}: no metrics.jsonl in it; expected the directory of a training run (run.dir)",
               directory.string());
  run.metrics = read_metrics(metrics);
  if (run.metrics.size() == 0)
    fail_usage(
        "{}: no step is logged in it yet; train first (log.every_steps says how often a line is written)",
        metrics.string());
  if (fs::exists(directory / "config.yaml")) run.config = flatten_yaml(directory / "config.yaml");
  if (fs::exists(directory / "sample.txt")) run.sample = read_file(directory / "sample.txt");
  return run;
}

// "runs/demo", "runs/demo/" and "." (inside it) are all called "demo".
std::string short_name(const fs::path& directory) {
  fs::path path = fs::absolute(directory).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

void name_runs(std::vector<RunData>& runs) {
  std::map<std::string, int> count;
  for (const RunData& run : runs) ++count[short_name(run.directory)];
  for (RunData& run : runs) {
    run.name = short_name(run.directory);
    if (count[run.name] > 1) run.name = run.directory.string();
  }
}

std::optional<std::string> find_value(const FlatConfig& config, const std::string& key) {
  for (const auto& [name, value] : config)
    if (name == key) return value;
  return std::nullopt;
}

std::vector<double> finite(const std::vector<double>& values) {
  std::vector<double> kept;
  std::copy_if(values.begin(), values.end(), std::back_inserter(kept),
               [](double value) { return std::isfinite(value); });
  return kept;
}

std::optional<double> last_of(const std::vector<double>& values) {
  const auto found = std::find_if(values.rbegin(), values.rend(), [](double v) { return !std::isnan(v); });
  if (found == values.rend()) return std::nullopt;
  return *found;
}

std::optional<double> median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

}  // namespace

FlatConfig flatten_yaml(const fs::path& file) {
  FlatConfig flat;
  try {
    const YAML::Node root = YAML::Load(read_file(file));
    if (!root.IsMap()) fail("{}: expected a map of sections (run, model, data, ...)", file.string());
    flatten(root, "", flat);
  } catch (const YAML::Exception& e) {
    fail("{}:{}: {}", file.string(), e.mark.line + 1, e.msg);
  }
  return flat;
}

std::vector<RunData> load_runs(const std::vector<fs::path>& directories) {
  if (directories.empty()) fail_usage("expected the directory of at least one run");
  std::vector<RunData> runs;
  for (const fs::path& directory : directories) runs.push_back(load_run(directory));
  name_runs(runs);
  return runs;
}

std::vector<ConfigDifference> config_differences(std::span<const RunData> runs) {
  std::vector<ConfigDifference> differences;
  std::set<std::string> seen{"run.name", "run.dir"};
  for (const RunData& first : runs) {
    for (const auto& entry : first.config) {
      if (!seen.insert(entry.first).second) continue;
      ConfigDifference difference{entry.first, {}};
      bool differs = false;
      for (const RunData& run : runs) {
        difference.values.push_back(find_value(run.config, entry.first));
        differs = differs || (!run.config.empty() && difference.values.back() != entry.second);
      }
      if (differs) differences.push_back(std::move(difference));
    }
  }
  return differences;
}

RunSummary summarize(const MetricsTable& metrics) {
  RunSummary summary;
  summary.steps = metrics.step.back();
  summary.tokens = metrics.tokens.back();
  summary.last_loss = last_of(metrics.column("loss"));
  const std::vector<double> val = metrics.column("val_loss");
  for (size_t i = 0; i < val.size(); ++i) {
    if (!std::isfinite(val[i]) || (summary.best_val_loss && val[i] >= *summary.best_val_loss)) continue;
    summary.best_val_loss = val[i];
    summary.best_val_step = metrics.step[i];
  }
  summary.last_val_loss = last_of(val);
  summary.val_perplexity = last_of(metrics.column("val_perplexity"));
  summary.val_bits_per_byte = last_of(metrics.column("val_bits_per_byte"));
  summary.median_tokens_per_s = median(finite(metrics.column("tokens_per_s")));
  summary.median_mfu = median(finite(metrics.column("mfu")));
  summary.skipped = static_cast<int64_t>(last_of(metrics.column("skipped")).value_or(0.0));
  const std::vector<double> time = finite(metrics.column("time"));
  if (time.size() > 1) summary.seconds = time.back() - time.front();
  return summary;
}

std::vector<double> smooth(std::span<const double> values, double weight) {
  struct Sum {
    double values = 0.0, weights = 0.0;
  };
  std::vector<Sum> sums(values.size());
  const auto sweep = [&](auto index_of) {
    Sum before;  // the weighted sum of all values on one side
    for (size_t n = 0; n < values.size(); ++n) {
      const size_t i = index_of(n);
      if (!std::isfinite(values[i])) continue;
      sums[i].values += weight * before.values;
      sums[i].weights += weight * before.weights;
      before = {weight * before.values + values[i], weight * before.weights + 1.0};
    }
  };
  sweep([](size_t n) { return n; });
  sweep([&](size_t n) { return values.size() - 1 - n; });
  std::vector<double> smoothed(values.size(), std::numeric_limits<double>::quiet_NaN());
  for (size_t i = 0; i < values.size(); ++i)
    if (std::isfinite(values[i])) smoothed[i] = (sums[i].values + values[i]) / (sums[i].weights + 1.0);
  return smoothed;
}

}  // namespace polar
