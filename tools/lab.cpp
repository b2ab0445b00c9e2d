// polartrain lab: optimizers on matrix problems whose truth is known.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/log.h"
#include "command.h"
#include "lab/run.h"

namespace polar {
namespace {

using nlohmann::ordered_json;

struct LabOptions {
  std::string device = "auto", output = "runs/lab";
  std::vector<std::string> only;
  int64_t steps = 4000, every = 10, seeds = 3, first_seed = 1;
  int threads = 0;
  lab::QuadraticSizes sizes;
};

std::vector<lab::Setting> chosen_settings(const LabOptions& options) {
  std::vector<lab::Setting> all = lab::quadratic_suite();
  if (options.only.empty()) return all;
  std::vector<lab::Setting> chosen;
  for (const std::string& part : options.only) {
    const size_t before = chosen.size();
    for (const lab::Setting& setting : all)
      if (setting.name.find(part) != std::string::npos) chosen.push_back(setting);
    if (chosen.size() == before) {
      std::string names;
      for (const lab::Setting& setting : all) names += "\n  " + setting.name;
      fail_usage("--only: found \"{}\", expected a part of one of these names:{}", part, names);
    }
  }
  return chosen;
}

ordered_json json_of(const lab::Result& result) {
  ordered_json points = ordered_json::array();
  for (const lab::Point& point : result.points)
    points.push_back({{"step", point.step},
                      {"lr", point.lr},
                      {"gap", point.measure.gap},
                      {"residual_condition", point.measure.residual_condition},
                      {"gradient_condition", point.measure.gradient_condition},
                      {"gradient_nuclear_norm", point.measure.gradient_nuclear}});
  return {{"name", result.setting.name},   {"seed", result.seed},         {"lr", result.setting.group.lr},
          {"decay", result.setting.decay}, {"diverged", result.diverged}, {"points", std::move(points)}};
}

// The median over the seeds at a step; of runs that ended before, nothing.
std::string gap_at(const std::vector<lab::Result>& seeds, int64_t step) {
  std::vector<double> gaps;
  for (const lab::Result& result : seeds)
    for (const lab::Point& point : result.points)
      if (point.step == step) gaps.push_back(point.measure.gap);
  if (gaps.size() < seeds.size()) return "diverged";
  std::sort(gaps.begin(), gaps.end());
  return fmt::format("{:.1e}", gaps[gaps.size() / 2]);
}

// A line a setting: the gap at some steps.
std::string table_of(const std::vector<std::vector<lab::Result>>& all, const LabOptions& options) {
  std::vector<int64_t> steps;
  for (const int64_t step : {100, 500, 1000, 2000, 4000})
    if (step <= options.steps && (step % options.every == 0 || step == options.steps)) steps.push_back(step);
  if (steps.empty() || steps.back() != options.steps) steps.push_back(options.steps);
  std::string table = "| f - f*, median of the seeds, after steps | lr |";
  for (const int64_t step : steps) table += fmt::format(" {} |", step);
  table += "\n|---|---:|";
  for (size_t i = 0; i < steps.size(); ++i) table += "---:|";
  table += "\n";
  for (const std::vector<lab::Result>& seeds : all) {
    const lab::Setting& setting = seeds.front().setting;
    table += fmt::format("| {} | {:g} |", setting.name, setting.group.lr);
    for (const int64_t step : steps) table += fmt::format(" {} |", gap_at(seeds, step));
    table += "\n";
  }
  return table;
}

ExitCode run_quadratic(const LabOptions& options) {
  const auto ops = make_ops({.device = options.device, .threads = options.threads});
  const std::vector<lab::Setting> settings = chosen_settings(options);
  std::vector<std::vector<lab::Result>> all(settings.size());
  ordered_json json{{"problem", "quadratic"},
                    {"device", ops->device_name()},
                    {"sizes", {options.sizes.m, options.sizes.n, options.sizes.p, options.sizes.q}},
                    {"runs", ordered_json::array()}};
  for (int64_t s = 0; s < options.seeds; ++s) {
    const auto seed = static_cast<uint64_t>(options.first_seed + s);
    const auto problem = lab::make_quadratic(*ops, options.sizes, seed);
    for (size_t i = 0; i < settings.size(); ++i) {
      all[i].push_back(lab::run(*ops, *problem, settings[i], options.steps, options.every, seed,
                                [&](int64_t step, double gap) {
                                  if (log::is_terminal())
                                    log::progress(fmt::format("seed {}, {}: step {}/{}, gap {:.2e}", seed,
                                                              settings[i].name, step, options.steps, gap));
                                }));
      json["runs"].push_back(json_of(all[i].back()));
    }
  }
  log::finish_progress();
  const std::filesystem::path dir = options.output;
  std::filesystem::create_directories(dir);
  const std::string table = table_of(all, options);
  write_file_atomically(dir / "quadratic.json", json.dump() + "\n");
  write_file_atomically(dir / "quadratic.md", table);
  std::printf("%s", table.c_str());
  log::info("written to {} (quadratic.json, quadratic.md)", dir.string());
  return ExitCode::done;
}

}  // namespace

void add_lab(CLI::App& app, Action& action) {
  auto options = std::make_shared<LabOptions>();
  CLI::App* command = app.add_subcommand("lab", "Optimizers on matrix problems whose truth is known");
  command->require_subcommand(1);
  CLI::App* quadratic = command->add_subcommand(
      "quadratic", "f(X) = 1/2 ||A X B - C||^2, the settings of the PolarGrad paper's section 6.1");
  quadratic->add_option("--steps", options->steps, "Optimizer steps of each run")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  quadratic->add_option("--every", options->every, "Steps between measurements")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000000));
  quadratic->add_option("--seeds", options->seeds, "Draws of the problem; tables show the median")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  quadratic->add_option("--first-seed", options->first_seed, "Seed of the first draw")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000000));
  quadratic->add_option("--only", options->only, "Only settings whose names contain one of these");
  quadratic->add_option("--output", options->output, "Folder for JSON and table")->capture_default_str();
  quadratic->add_option("--device", options->device, "cpu, cuda or auto")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda", "auto"}));
  quadratic->add_option("--threads", options->threads, "CPU threads (0: all)")->check(CLI::Range(0, 4096));
  const auto size = [&](const char* name, int64_t& value, const char* what) {
    quadratic->add_option(name, value, what)->capture_default_str()->check(CLI::Range(1, 100000));
  };
  size("-m", options->sizes.m, "Rows of X, columns of A");
  size("-n", options->sizes.n, "Columns of X, rows of B");
  size("-p", options->sizes.p, "Rows of A and C");
  size("-q", options->sizes.q, "Columns of B and C");
  quadratic->footer("Example: polartrain lab quadratic --seeds 1 --only Muon --only ZOLO");
  quadratic->callback([options, &action] { action = [options] { return run_quadratic(*options); }; });
}

}  // namespace polar
