#include "sweep/results.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "report/metrics.h"

namespace polar::sweep {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "polartrain sweep 1";
constexpr State kStates[] = {State::pending, State::done, State::diverged, State::failed, State::stopped};

Json optional_number(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

std::optional<double> number_or_none(const Json& value) {
  if (value.is_null()) return std::nullopt;
  return value.get<double>();
}

Json json_of(const RunResult& run) {
  return {{"seed", run.seed},
          {"state", name_of(run.state)},
          {"val_loss", optional_number(run.val_loss)},
          {"val_bits_per_byte", optional_number(run.bits_per_byte)},
          {"step_seconds", optional_number(run.step_seconds)},
          {"steps", run.steps},
          {"seconds", run.seconds},
          {"cpu_seconds", run.cpu_seconds},
          {"exit_code", run.exit_code},
          {"message", run.message},
          {"program", run.program}};
}

RunResult run_of(const Json& json) {
  RunResult run;
  run.seed = json.at("seed").get<uint64_t>();
  const std::string state = json.at("state").get<std::string>();
  const auto found =
      std::find_if(std::begin(kStates), std::end(kStates), [&](State s) { return state == name_of(s); });
  if (found == std::end(kStates)) fail("unknown state '{}'", state);
  run.state = *found;
  run.val_loss = number_or_none(json.at("val_loss"));
  run.bits_per_byte = number_or_none(json.at("val_bits_per_byte"));
  run.step_seconds = number_or_none(json.at("step_seconds"));
  run.steps = json.at("steps").get<int64_t>();
  run.seconds = json.at("seconds").get<double>();
  run.cpu_seconds = json.at("cpu_seconds").get<double>();
  run.exit_code = json.at("exit_code").get<int>();
  run.message = json.at("message").get<std::string>();
  run.program = json.at("program").get<std::string>();
  return run;
}

Json json_of(const Definition& definition) {
  Json grids = Json::array();
  for (const Grid& grid : definition.grids)
    grids.push_back({{"name", grid.name}, {"keys", grid.keys}, {"values", grid.values}});
  return {{"config", definition.config},
          {"overrides", definition.overrides},
          {"grids", std::move(grids)},
          {"first_seed", definition.first_seed},
          {"seeds", definition.seeds}};
}

// What `read` makes of DIR/sweep.json; every mistake in it becomes one message.
template <class Read>
auto read_sweep_file(const fs::path& sweep, const Read& read) {
  const fs::path file = sweep / kSweepFile;
  const std::string text = read_file(file);
  try {
    const Json json = Json::parse(text);
    if (json.at("format") != kFormat) fail("expected the format '{}'", kFormat);
    return read(json);
  } catch (const std::exception& e) {
    fail("{}: this is not what a sweep writes ({}); put the directory aside, or take another --output",
         file.string(), e.what());
  }
}

std::optional<double> median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !std::isfinite(value) || value <= 0.0; });
  if (values.empty()) return std::nullopt;
  const auto middle = values.begin() + static_cast<long>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// What the lines of metrics.jsonl say.
void read_metrics_of(const fs::path& run, int64_t max_steps, int64_t global_tokens, RunResult& result) {
  result.val_loss.reset();
  result.bits_per_byte.reset();
  if (!fs::exists(run / "metrics.jsonl")) return;
  const MetricsTable metrics = read_metrics(run / "metrics.jsonl");
  if (metrics.size() == 0) return;
  result.steps = metrics.step.back();
  if (const std::optional<double> rate = median(metrics.column("tokens_per_s")))
    result.step_seconds = static_cast<double>(global_tokens) / *rate;
  if (result.steps < max_steps) return;
  result.val_loss = metrics.column("val_loss").back();
  if (const double bits = metrics.column("val_bits_per_byte").back(); std::isfinite(bits))
    result.bits_per_byte = bits;
}

}  // namespace

const char* name_of(State state) {
  switch (state) {
    case State::pending:
      return "pending";
    case State::done:
      return "done";
    case State::diverged:
      return "diverged";
    case State::failed:
      return "failed";
    case State::stopped:
      return "stopped";
  }
  return "";
}

std::optional<Spread> spread_of(const std::vector<RunResult>& runs) {
  Spread spread;
  double sum = 0.0;
  for (const RunResult& run : runs) {
    if (run.state != State::done) continue;
    const double loss = *run.val_loss;
    spread.low = spread.count == 0 ? loss : std::min(spread.low, loss);
    spread.high = spread.count == 0 ? loss : std::max(spread.high, loss);
    sum += loss;
    ++spread.count;
  }
  if (spread.count == 0) return std::nullopt;
  spread.mean = sum / static_cast<double>(spread.count);
  double squares = 0.0;
  for (const RunResult& run : runs)
    if (run.state == State::done) squares += (*run.val_loss - spread.mean) * (*run.val_loss - spread.mean);
  if (spread.count > 1) spread.deviation = std::sqrt(squares / static_cast<double>(spread.count - 1));
  return spread;
}

std::vector<Ranked> ranking(const Results& results) {
  std::vector<Ranked> order;
  for (size_t p = 0; p < results.points.size(); ++p) order.push_back({p, spread_of(results.points[p]), 0});
  const auto done = [](const Ranked& ranked) { return ranked.spread ? ranked.spread->count : 0; };
  const auto whole = [&](const Ranked& ranked) {
    return done(ranked) == results.points[ranked.point].size();
  };
  std::stable_sort(order.begin(), order.end(), [&](const Ranked& a, const Ranked& b) {
    if (whole(a) != whole(b)) return whole(a);
    if (done(a) != done(b)) return done(a) > done(b);
    return done(a) > 0 && a.spread->mean < b.spread->mean;
  });
  for (size_t i = 0; i < order.size(); ++i)
    if (whole(order[i])) order[i].rank = i + 1;
  return order;
}

size_t count(const Results& results, State state) {
  size_t total = 0;
  for (const std::vector<RunResult>& runs : results.points)
    total += static_cast<size_t>(
        std::count_if(runs.begin(), runs.end(), [&](const RunResult& run) { return run.state == state; }));
  return total;
}

void read_run(const fs::path& run, int64_t max_steps, int64_t global_tokens, int exit_code,
              RunResult& result) {
  result.exit_code = exit_code;
  try {
    read_metrics_of(run, max_steps, global_tokens, result);
  } catch (const Error& e) {
    result.state = State::failed;
    result.message = e.what();
    return;
  }
  const bool at_end = result.val_loss.has_value();
  const bool finite = at_end && std::isfinite(*result.val_loss);
  if (exit_code == static_cast<int>(ExitCode::done) && finite)
    result.state = State::done;
  else if (exit_code == static_cast<int>(ExitCode::stopped_by_guard) ||
           (exit_code == static_cast<int>(ExitCode::done) && at_end))
    result.state = State::diverged;
  else if (exit_code == static_cast<int>(ExitCode::stopped_by_signal))
    result.state = State::stopped;
  else
    result.state = State::failed;
  if (result.state == State::done)
    result.message.clear();
  else
    result.val_loss.reset();
}

std::string to_json(const Definition& definition, const Results& results) {
  const std::vector<Ranked> order = ranking(results);
  Json points = Json::array();
  for (const Ranked& ranked : order) {
    const Point& point = definition.points[ranked.point];
    Json values = Json::object(), runs = Json::array();
    for (size_t g = 0; g < definition.grids.size(); ++g)
      values[definition.grids[g].name] = definition.grids[g].values[point.choice[g]];
    for (const RunResult& run : results.points[ranked.point]) runs.push_back(json_of(run));
    Json json{{"name", point.name}, {"values", std::move(values)}, {"rank", ranked.rank}};
    if (const auto& spread = ranked.spread)
      json["val_loss"] = {{"seeds", spread->count},
                          {"mean", spread->mean},
                          {"deviation", spread->deviation},
                          {"min", spread->low},
                          {"max", spread->high}};
    json["runs"] = std::move(runs);
    points.push_back(std::move(json));
  }
  const Json json{{"format", kFormat}, {"definition", json_of(definition)}, {"points", std::move(points)}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Definition read_definition(const fs::path& sweep) {
  return read_sweep_file(sweep, [](const Json& json) {
    const Json& kept = json.at("definition");
    Definition definition;
    definition.config = kept.at("config").get<std::string>();
    definition.overrides = kept.at("overrides").get<std::vector<std::string>>();
    for (const Json& grid : kept.at("grids"))
      definition.grids.push_back({.keys = grid.at("keys").get<std::vector<std::string>>(),
                                  .values = grid.at("values").get<std::vector<std::string>>(),
                                  .name = grid.at("name").get<std::string>()});
    definition.first_seed = kept.at("first_seed").get<uint64_t>();
    definition.seeds = kept.at("seeds").get<int64_t>();
    definition.points = product(definition.grids);
    return definition;
  });
}

Results load_results(const fs::path& sweep, const Definition& definition) {
  Results results;
  for (size_t p = 0; p < definition.points.size(); ++p) {
    results.points.emplace_back(static_cast<size_t>(definition.seeds));
    for (size_t s = 0; s < results.points[p].size(); ++s)
      results.points[p][s].seed = definition.first_seed + s;
  }
  if (!fs::exists(sweep / kSweepFile)) return results;
  read_sweep_file(sweep, [&](const Json& json) {
    for (const Json& point : json.at("points")) {
      const std::string name = point.at("name").get<std::string>();
      for (size_t p = 0; p < definition.points.size(); ++p) {
        if (definition.points[p].name != name) continue;
        for (const Json& run : point.at("runs")) {
          const RunResult result = run_of(run);
          for (RunResult& slot : results.points[p])
            if (slot.seed == result.seed) slot = result;
        }
      }
    }
    return 0;
  });
  return results;
}

}  // namespace polar::sweep
