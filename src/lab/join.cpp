// Experiments read back from their JSON.
#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "lab/experiment.h"

namespace polar::lab {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

Suite suite_of(const std::string& problem) {
  for (Suite& suite : std::vector{quadratic_suite(), logistic_suite(), completion_suite()})
    if (suite.problem == problem) return suite;
  fail_usage("found the problem {}, expected quadratic, logistic or completion", problem);
}

Result result_of(const Json& run, const Suite& suite, const std::vector<Quantity>& quantities) {
  const std::string name = run.at("name");
  const auto setting = std::find_if(suite.settings.begin(), suite.settings.end(),
                                    [&](const Setting& one) { return one.name == name; });
  if (setting == suite.settings.end()) fail_usage("found the setting {}, which is not the suite's", name);
  Result result{.setting = *setting, .seed = run.at("seed"), .points = {}, .diverged = run.at("diverged")};
  result.setting.group.lr = run.at("lr");
  const auto steps = run.at("step").get<std::vector<int64_t>>();
  for (size_t i = 0; i < steps.size(); ++i) {
    Point point{.step = steps[i], .lr = 0.0, .values = {}};
    for (const Quantity& quantity : quantities) {
      const Json& value = run.at(quantity.key).at(i);
      // JSON has no infinity, and that is what a condition number may be.
      point.values.push_back(value.is_null() ? std::numeric_limits<double>::infinity() : value.get<double>());
    }
    result.points.push_back(std::move(point));
  }
  return result;
}

Experiment experiment_of(const Json& json) {
  Experiment experiment{.problem = json.at("problem"),
                        .title = json.at("title"),
                        .device = json.at("device"),
                        .version = json.at("version"),
                        .sizes = {},
                        .generator = generator_of(json.value("draw", name_of(Generator::polartrain))),
                        .quantities = {},
                        .table_steps = {},
                        .draws = {},
                        .settings = {}};
  for (const auto& [name, value] : json.at("sizes").items()) experiment.sizes.emplace_back(name, value);
  for (const Json& quantity : json.at("quantities"))
    experiment.quantities.push_back({quantity.at("key"), quantity.at("label")});
  for (const Json& draw : json.at("draws"))
    experiment.draws.push_back({draw.at("seed"), draw.at("minimum"), draw.at("minimum_by")});
  const Suite suite = suite_of(experiment.problem);
  for (const Json& run : json.at("runs")) {
    Result result = result_of(run, suite, experiment.quantities);
    const auto same =
        std::find_if(experiment.settings.begin(), experiment.settings.end(),
                     [&](const auto& seeds) { return seeds.front().setting.name == result.setting.name; });
    if (same == experiment.settings.end())
      experiment.settings.push_back({std::move(result)});
    else
      same->push_back(std::move(result));
  }
  if (experiment.settings.empty()) fail_usage("found no runs");
  return experiment;
}

// Of the longest run.
int64_t last_step(const Experiment& experiment) {
  int64_t last = 0;
  for (const auto& seeds : experiment.settings)
    for (const Result& result : seeds)
      if (!result.points.empty()) last = std::max(last, result.points.back().step);
  return last;
}

// Columns for the steps of the suite that a run has, and the last.
void choose_table_steps(Experiment& experiment) {
  const int64_t last = last_step(experiment);
  for (const int64_t step : suite_of(experiment.problem).table_steps)
    if (step < last && std::any_of(experiment.settings.begin(), experiment.settings.end(),
                                   [&](const auto& seeds) { return spread_at(seeds, step, 0).has_value(); }))
      experiment.table_steps.push_back(step);
  experiment.table_steps.push_back(last);
}

void add(Experiment& all, Experiment&& more) {
  if (last_step(more) != last_step(all))
    fail_usage("found runs of {} steps, expected {} as in the first file", last_step(more), last_step(all));
  if (more.problem != all.problem || more.sizes != all.sizes)
    fail_usage("found a {} of other sizes or another problem than the first file's {}", more.problem,
               all.problem);
  if (more.generator != all.generator)
    fail_usage("found draws by {}, expected draws by {} as in the first file", name_of(more.generator),
               name_of(all.generator));
  for (const Experiment::Draw& draw : more.draws) {
    for (const Experiment::Draw& known : all.draws)
      if (known.seed == draw.seed) fail_usage("found the draw {} a second time", draw.seed);
    all.draws.push_back(draw);
  }
  if (more.settings.size() != all.settings.size())
    fail_usage("found {} settings, expected the {} of the first file", more.settings.size(),
               all.settings.size());
  for (size_t i = 0; i < all.settings.size(); ++i) {
    const Setting &known = all.settings[i].front().setting, &found = more.settings[i].front().setting;
    if (known.name != found.name || known.group.lr != found.group.lr)
      fail_usage("found {} with lr {:g}, expected {} with lr {:g}", found.name, found.group.lr, known.name,
                 known.group.lr);
    for (Result& result : more.settings[i]) all.settings[i].push_back(std::move(result));
  }
  if (more.version != all.version) all.version += ", " + more.version;
  if (more.device != all.device) all.device += "; " + more.device;
}

}  // namespace

Experiment joined(const std::vector<fs::path>& files) {
  std::optional<Experiment> all;
  for (const fs::path& file : files) {
    try {
      Experiment one = experiment_of(Json::parse(read_file(file)));
      if (all)
        add(*all, std::move(one));
      else
        all = std::move(one);
    } catch (const nlohmann::json::exception& e) {
      fail_usage("{}: found no experiment of the lab: {}", file.string(), e.what());
    } catch (const Error& e) {
      fail_usage("{}: {}", file.string(), e.what());
    }
  }
  if (!all) fail_usage("lab join: found no file, expected one or more");
  choose_table_steps(*all);
  return std::move(*all);
}

}  // namespace polar::lab
