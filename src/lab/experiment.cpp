#include "lab/experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace polar::lab {
namespace {

using Json = nlohmann::ordered_json;

const Point* point_at(const Result& result, int64_t step) {
  const auto found = std::lower_bound(result.points.begin(), result.points.end(), step,
                                      [](const Point& point, int64_t wanted) { return point.step < wanted; });
  return found != result.points.end() && found->step == step ? &*found : nullptr;
}

// JSON has no infinity and no NaN.
Json number(double value) {
  if (!std::isfinite(value)) return nullptr;
  return std::stod(fmt::format("{:.4e}", value));
}

Json to_json(const Result& result, const std::vector<Quantity>& quantities) {
  const Setting& setting = result.setting;
  Json run{{"name", setting.name},       {"seed", result.seed},    {"rule", rule_of(setting)},
           {"lr", setting.group.lr},     {"decay", setting.decay}, {"decay_every", setting.decay_every},
           {"diverged", result.diverged}};
  Json steps = Json::array();
  for (const Point& point : result.points) steps.push_back(point.step);
  run["step"] = std::move(steps);
  for (size_t q = 0; q < quantities.size(); ++q) {
    Json column = Json::array();
    for (const Point& point : result.points) column.push_back(number(point.values[q]));
    run[quantities[q].key] = std::move(column);
  }
  return run;
}

std::string cell_of(const std::vector<Result>& seeds, int64_t step) {
  const std::optional<Spread> gap = spread_at(seeds, step, 0);
  const bool diverged =
      std::any_of(seeds.begin(), seeds.end(), [](const Result& one) { return one.diverged; });
  if (!gap) return diverged ? "diverged" : "-";
  std::string cell = fmt::format("{:.1e}", gap->median);
  if (gap->most > 10.0 * gap->least) cell += fmt::format(" ({:.0e} .. {:.0e})", gap->least, gap->most);
  return cell;
}

}  // namespace

std::optional<Spread> spread_at(const std::vector<Result>& seeds, int64_t step, size_t quantity) {
  std::vector<double> values;
  for (const Result& result : seeds) {
    const Point* point = point_at(result, step);
    if (point == nullptr) return std::nullopt;
    values.push_back(point->values[quantity]);
  }
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  return Spread{values[(values.size() - 1) / 2], values.front(), values.back()};
}

std::string draw_text(const Experiment& experiment) {
  std::string text = fmt::format("drawn by {} generator, seed{} ",
                                 experiment.generator == Generator::torch ? "PyTorch's CPU" : "PolarTrain's",
                                 experiment.draws.size() == 1 ? "" : "s");
  const std::vector<Experiment::Draw>& draws = experiment.draws;
  for (size_t i = 0; i < draws.size(); ++i) {
    const size_t first = i;
    while (i + 1 < draws.size() && draws[i + 1].seed == draws[i].seed + 1) ++i;
    text += fmt::format("{}{}", first == 0 ? "" : ", ", draws[first].seed);
    if (i > first) text += fmt::format("-{}", draws[i].seed);
  }
  return text;
}

std::vector<int64_t> common_steps(const std::vector<Result>& seeds) {
  std::vector<int64_t> steps;
  if (seeds.empty()) return steps;
  for (const Point& point : seeds.front().points)
    if (spread_at(seeds, point.step, 0)) steps.push_back(point.step);
  return steps;
}

Json to_json(const Experiment& experiment) {
  Json json{{"problem", experiment.problem},
            {"title", experiment.title},
            {"device", experiment.device},
            {"version", experiment.version}};
  for (const auto& [name, value] : experiment.sizes) json["sizes"][name] = value;
  json["draw"] = name_of(experiment.generator);
  json["quantities"] = Json::array();
  for (const Quantity& quantity : experiment.quantities)
    json["quantities"].push_back({{"key", quantity.key}, {"label", quantity.label}});
  json["draws"] = Json::array();
  for (const Experiment::Draw& draw : experiment.draws)
    json["draws"].push_back(
        {{"seed", draw.seed}, {"minimum", draw.minimum}, {"minimum_by", draw.minimum_by}});
  json["runs"] = Json::array();
  for (const std::vector<Result>& seeds : experiment.settings)
    for (const Result& result : seeds) json["runs"].push_back(to_json(result, experiment.quantities));
  return json;
}

Table gap_table(const Experiment& experiment) {
  const char* seeds_are = experiment.generator == Generator::torch ? "PyTorch's seeds" : "the seeds";
  Table table{
      .head = {fmt::format("{}, median of {}, after steps", experiment.quantities.front().label, seeds_are),
               "lr"},
      .rows = {}};
  for (const int64_t step : experiment.table_steps) table.head.push_back(std::to_string(step));
  for (const std::vector<Result>& seeds : experiment.settings) {
    const Setting& setting = seeds.front().setting;
    std::vector<std::string> row{setting.name, fmt::format("{:g}", setting.group.lr)};
    for (const int64_t step : experiment.table_steps) row.push_back(cell_of(seeds, step));
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string to_markdown(const Table& table) {
  const auto line = [](const std::vector<std::string>& cells) {
    std::string text = "|";
    for (const std::string& cell : cells) text += " " + cell + " |";
    return text + "\n";
  };
  std::string text = line(table.head) + "|---|";
  for (size_t i = 1; i < table.head.size(); ++i) text += "---:|";
  text += "\n";
  for (const std::vector<std::string>& row : table.rows) text += line(row);
  return text;
}

}  // namespace polar::lab
