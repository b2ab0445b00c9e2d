#include "sweep/compare.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/error.h"
#include "sweep/table.h"

namespace polar::sweep {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::optional<double> median(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

// The indices of the values, smallest number first.
std::vector<size_t> by_size(const std::vector<double>& numbers) {
  std::vector<size_t> order(numbers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return numbers[a] < numbers[b]; });
  return order;
}

size_t point_with(const Definition& definition, const std::vector<size_t>& choice) {
  const auto found = std::find_if(definition.points.begin(), definition.points.end(),
                                  [&](const Point& point) { return point.choice == choice; });
  return static_cast<size_t>(found - definition.points.begin());
}

Neighbour neighbour_at(const Compared& sweep, std::vector<size_t> choice, size_t grid, size_t value,
                       double best) {
  choice[grid] = value;
  const std::vector<RunResult>& runs = sweep.results.points[point_with(sweep.definition, choice)];
  Neighbour neighbour{
      .value = sweep.definition.grids[grid].values[value], .penalty = std::nullopt, .why_not = ""};
  if (const auto spread = spread_of(runs); spread && spread->count == runs.size()) {
    neighbour.penalty = spread->mean - best;
    return neighbour;
  }
  for (const RunResult& run : runs)
    if (run.state != State::done) neighbour.why_not = name_of(run.state);
  return neighbour;
}

std::vector<Sensitivity> sensitivities_of(const Compared& sweep, const Ranked& best) {
  std::vector<Sensitivity> result;
  const std::vector<size_t>& choice = sweep.definition.points[best.point].choice;
  for (size_t g = 0; g < choice.size(); ++g) {
    const Grid& grid = sweep.definition.grids[g];
    const auto numbers = as_numbers(grid.values);
    if (!numbers || numbers->size() < 2) continue;
    const std::vector<size_t> order = by_size(*numbers);
    const auto at = static_cast<size_t>(std::find(order.begin(), order.end(), choice[g]) - order.begin());
    Sensitivity sensitivity{.grid = grid.name, .best = grid.values[choice[g]], .below = {}, .above = {}};
    if (at > 0) sensitivity.below = neighbour_at(sweep, choice, g, order[at - 1], best.spread->mean);
    if (at + 1 < order.size())
      sensitivity.above = neighbour_at(sweep, choice, g, order[at + 1], best.spread->mean);
    result.push_back(std::move(sensitivity));
  }
  return result;
}

std::string values_of(const Compared& sweep, size_t point) {
  std::string text;
  for (size_t g = 0; g < sweep.definition.grids.size(); ++g) {
    const Grid& grid = sweep.definition.grids[g];
    text += fmt::format("{}{} {}", g == 0 ? "" : ", ", grid.name,
                        grid.values[sweep.definition.points[point].choice[g]]);
  }
  return text.empty() ? "-" : text;
}

// "+0.0213 (4e-3)"
std::string text_of(const std::optional<Neighbour>& neighbour) {
  if (!neighbour) return "end of grid";
  if (!neighbour->penalty) return fmt::format("{} ({})", neighbour->why_not, neighbour->value);
  return fmt::format("{:+.4f} ({})", *neighbour->penalty, neighbour->value);
}

std::string joined(const std::vector<Sensitivity>& sensitivities,
                   std::optional<Neighbour> Sensitivity::*side) {
  std::string text;
  for (const Sensitivity& sensitivity : sensitivities)
    text += fmt::format("{}{}{}", text.empty() ? "" : "; ",
                        sensitivities.size() > 1 ? sensitivity.grid + " " : "", text_of(sensitivity.*side));
  return text.empty() ? "-" : text;
}

std::vector<std::string> row_of(const Compared& sweep, const Summary& summary, const Summary& first) {
  std::vector<std::string> row{sweep.name};
  if (const auto& best = summary.best) {
    const Spread& spread = *best->spread;
    row.insert(row.end(),
               {values_of(sweep, best->point),
                spread.count > 1 ? fmt::format("{} ± {:.4f}", loss_text(spread.mean), spread.deviation)
                                 : loss_text(spread.mean),
                fmt::format("{} to {}", loss_text(spread.low), loss_text(spread.high)),
                std::to_string(spread.count), joined(summary.sensitivities, &Sensitivity::below),
                joined(summary.sensitivities, &Sensitivity::above)});
  } else {
    row.insert(row.end(), 6, "-");
  }
  const auto add_cost = [&](const std::optional<double>& cost, const std::optional<double>& of_first,
                            const std::string& text) {
    row.push_back(cost ? text : "-");
    row.push_back(cost && of_first ? fmt::format("{:.2f}", *cost / *of_first) : "-");
  };
  add_cost(summary.step_seconds, first.step_seconds,
           fmt::format("{:.1f} ms", 1e3 * summary.step_seconds.value_or(0)));
  add_cost(summary.cpu_seconds, first.cpu_seconds, fmt::format("{:.1f} s", summary.cpu_seconds.value_or(0)));
  return row;
}

// What a reader must know before believing the table.
std::string warnings_of(const Compared& sweep, const Summary& summary) {
  std::string text;
  if (const std::string missing = shortfall(sweep.results); !missing.empty())
    text += fmt::format("* {}: {}\n", sweep.name, missing);
  for (const Sensitivity& sensitivity : summary.sensitivities)
    if (!sensitivity.below || !sensitivity.above)
      text += fmt::format("* {}: the best {} is the {} of those tried ({}); a better one may lie beyond\n",
                          sweep.name, sensitivity.grid, sensitivity.below ? "largest" : "smallest",
                          sensitivity.best);
  return text;
}

int64_t tokens_of(const Experiment& experiment) {
  return experiment.train.max_steps * experiment.batch.global_tokens;
}

std::vector<std::string> incomparable(const Experiment& first, const Experiment& other) {
  Experiment same = first;  // but for what must not differ
  same.model = other.model;
  same.data = other.data;
  same.data.prefetch_batches = first.data.prefetch_batches;
  same.evaluation.sequences = other.evaluation.sequences;
  same.train.init_from = other.train.init_from;
  std::vector<std::string> lines = polar::differences(first, same);
  if (tokens_of(first) != tokens_of(other))
    lines.push_back(
        fmt::format("tokens of a run: {} -> {} (train.max_steps {} -> {}, batch.global_tokens {} -> {})",
                    tokens_of(first), tokens_of(other), first.train.max_steps, other.train.max_steps,
                    first.batch.global_tokens, other.batch.global_tokens));
  return lines;
}

// Into `best` or `unknown`.
void load_best(const fs::path& directory, Compared& sweep) {
  const std::vector<Ranked> order = ranking(sweep.results);
  if (order.empty()) return;
  const Point& point = sweep.definition.points[order.front().point];
  try {
    sweep.best = load_experiment(point_directory(directory, point) / "config.yaml", {});
  } catch (const Error& error) {
    sweep.unknown = error.what();
  }
}

Json json_of(const Neighbour& neighbour) {
  if (neighbour.penalty) return {{"value", neighbour.value}, {"penalty", *neighbour.penalty}};
  return {{"value", neighbour.value}, {"state", neighbour.why_not}};
}

Json json_of(const Compared& sweep) {
  const Summary summary = summarize(sweep);
  Json json{{"name", sweep.name},
            {"config", sweep.definition.config},
            {"overrides", sweep.definition.overrides},
            {"best", nullptr},
            {"step_seconds", summary.step_seconds ? Json(*summary.step_seconds) : Json(nullptr)},
            {"run_cpu_seconds", summary.cpu_seconds ? Json(*summary.cpu_seconds) : Json(nullptr)},
            {"points", Json::array()}};
  if (summary.best) {
    const Spread& spread = *summary.best->spread;
    json["best"] = {{"point", sweep.definition.points[summary.best->point].name},
                    {"mean", spread.mean},
                    {"deviation", spread.deviation},
                    {"min", spread.low},
                    {"max", spread.high},
                    {"seeds", spread.count}};
    for (const Sensitivity& sensitivity : summary.sensitivities)
      json["sensitivity"][sensitivity.grid] = {
          {"best", sensitivity.best},
          {"below", sensitivity.below ? json_of(*sensitivity.below) : Json(nullptr)},
          {"above", sensitivity.above ? json_of(*sensitivity.above) : Json(nullptr)}};
  }
  for (size_t p = 0; p < sweep.results.points.size(); ++p) {
    Json runs = Json::array();
    for (const RunResult& run : sweep.results.points[p])
      runs.push_back({{"seed", run.seed},
                      {"state", name_of(run.state)},
                      {"program", run.program},
                      {"val_loss", run.val_loss ? Json(*run.val_loss) : Json(nullptr)}});
    json["points"].push_back({{"name", sweep.definition.points[p].name}, {"runs", std::move(runs)}});
  }
  return json;
}

}  // namespace

std::vector<Compared> load_sweeps(const std::vector<fs::path>& directories) {
  std::vector<Compared> sweeps;
  for (const fs::path& directory : directories) {
    if (!fs::exists(directory / kSweepFile))
      fail_usage("{}: there is no {} in it; expected the directory of a sweep", directory.string(),
                 kSweepFile);
    fs::path name = fs::absolute(directory).lexically_normal();
    if (!name.has_filename()) name = name.parent_path();
    Compared sweep{.name = name.filename().string(), .definition = read_definition(directory), .results = {}};
    sweep.results = load_results(directory, sweep.definition);
    load_best(directory, sweep);
    sweeps.push_back(std::move(sweep));
  }
  return sweeps;
}

std::vector<std::string> incomparable(const std::vector<Compared>& sweeps) {
  std::vector<std::string> lines;
  for (const Compared& sweep : sweeps) {
    const Compared& first = sweeps.front();
    if (!sweep.best)
      lines.push_back(
          fmt::format("{}: unknown what its best point was trained on: {}", sweep.name, sweep.unknown));
    else if (first.best)
      for (const std::string& line : incomparable(*first.best, *sweep.best))
        lines.push_back(fmt::format("{} -> {}: {}", first.name, sweep.name, line));
  }
  return lines;
}

Summary summarize(const Compared& sweep) {
  Summary summary;
  const std::vector<Ranked> order = ranking(sweep.results);
  if (!order.empty() && order.front().rank == 1) {
    summary.best = order.front();
    summary.sensitivities = sensitivities_of(sweep, *summary.best);
  }
  std::vector<double> steps, cpu;
  for (const std::vector<RunResult>& runs : sweep.results.points) {
    for (const RunResult& run : runs) {
      if (run.state != State::done) continue;
      if (run.step_seconds) steps.push_back(*run.step_seconds);
      cpu.push_back(run.cpu_seconds);
    }
  }
  summary.step_seconds = median(std::move(steps));
  summary.cpu_seconds = median(std::move(cpu));
  return summary;
}

std::string comparison_table(const std::vector<Compared>& sweeps) {
  std::vector<Summary> summaries;
  for (const Compared& sweep : sweeps) summaries.push_back(summarize(sweep));
  std::vector<size_t> order(sweeps.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const auto &x = summaries[a].best, &y = summaries[b].best;
    return x && (!y || x->spread->mean < y->spread->mean);
  });
  std::vector<std::vector<std::string>> rows{{"sweep", "best at", "val. loss", "lowest to highest", "seeds",
                                              "next lower value", "next higher value", "step", "relative",
                                              "CPU time", "relative"}};
  std::string warnings;
  for (const size_t i : order) {
    rows.push_back(row_of(sweeps[i], summaries[i], summaries.front()));
    warnings += warnings_of(sweeps[i], summaries[i]);
  }
  for (const std::string& line : incomparable(sweeps))
    warnings += fmt::format("* not comparable: {}\n", line);
  return markdown(rows, 2) + (warnings.empty() ? "" : "\n" + warnings);
}

std::string comparison_json(const std::vector<Compared>& sweeps) {
  Json list = Json::array();
  for (const Compared& sweep : sweeps) list.push_back(json_of(sweep));
  return Json({{"sweeps", std::move(list)}, {"incomparable", incomparable(sweeps)}})
             .dump(1, ' ', false, Json::error_handler_t::replace) +
         "\n";
}

}  // namespace polar::sweep
