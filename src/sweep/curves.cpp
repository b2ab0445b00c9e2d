#include "sweep/curves.h"

#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "base/log.h"

namespace polar::sweep {
namespace {

namespace fs = std::filesystem;

// What a run has logged; an empty table if nothing, or nothing that can be read.
MetricsTable logged(const fs::path& run) {
  if (!fs::exists(run / "metrics.jsonl")) return {};
  try {
    return read_metrics(run / "metrics.jsonl");
  } catch (const Error& e) {
    log::warning("{}; the report is written without this run's curves", e.what());
    return {};
  }
}

}  // namespace

MetricsTable mean_of(const std::vector<MetricsTable>& seeds) {
  std::map<int64_t, int64_t> tokens;  // by step
  for (const MetricsTable& seed : seeds)
    for (size_t i = 0; i < seed.size(); ++i) tokens[seed.step[i]] = seed.tokens[i];
  MetricsTable mean;
  std::map<int64_t, size_t> row;
  for (const auto& [step, count] : tokens) {
    row[step] = mean.size();
    mean.step.push_back(step);
    mean.tokens.push_back(count);
  }
  std::map<std::string, std::vector<double>> counts;
  for (const MetricsTable& seed : seeds) {
    for (const auto& [name, values] : seed.columns) {
      std::vector<double>& sums = mean.columns[name];
      sums.resize(mean.size(), 0.0);
      counts[name].resize(mean.size(), 0.0);
      for (size_t i = 0; i < values.size(); ++i) {
        if (std::isnan(values[i])) continue;  // no value on this line
        sums[row[seed.step[i]]] += values[i];
        counts[name][row[seed.step[i]]] += 1.0;
      }
    }
  }
  for (auto& [name, sums] : mean.columns)
    for (size_t i = 0; i < sums.size(); ++i)
      sums[i] = counts[name][i] > 0.0 ? sums[i] / counts[name][i] : std::numeric_limits<double>::quiet_NaN();
  return mean;
}

std::vector<RunData> mean_curves(const fs::path& sweep, const Definition& definition,
                                 const Results& results) {
  std::vector<RunData> curves;
  for (const Ranked& ranked : ranking(results)) {
    const Point& point = definition.points[ranked.point];
    std::vector<MetricsTable> seeds;
    for (const RunResult& run : results.points[ranked.point])
      if (MetricsTable table = logged(run_directory(sweep, point, run.seed)); table.size() > 0)
        seeds.push_back(std::move(table));
    if (seeds.empty()) continue;
    curves.push_back({.name = point.name,
                      .directory = point_directory(sweep, point),
                      .metrics = mean_of(seeds),
                      .config = {},
                      .sample = ""});
  }
  return curves;
}

}  // namespace polar::sweep
