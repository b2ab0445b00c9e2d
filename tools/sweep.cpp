// polartrain sweep
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "command.h"
#include "launch/worker.h"
#include "sweep/compare.h"
#include "sweep/page.h"
#include "sweep/runner.h"
#include "sweep/table.h"

namespace polar {
namespace {

constexpr const char* kFooter =
    R"(--grid key=v1,v2,... may be given several times; the points are the product. Keys joined by '+' take the same
value: --grid optimizer.groups.0.lr+optimizer.groups.1.lr=1e-3,3e-3. A value that holds commas stands in
brackets or quotes: --grid 'optimizer.groups.0.betas=[0.9,0.95],[0.8,0.95]'.

Every run is a process of its own with a directory OUTPUT/<point>/seed-<n>; what it says is in seed-<n>.out.
One that diverges or crashes is noted, and the others go on. SIGTERM or Ctrl-C makes the runs save and stop;
the same call goes on where it was cut, and tries again what has failed. OUTPUT/sweep.html, sweep.md and
sweep.json rank the points by final validation loss, mean over the seeds.

Exit code: 0; 1 if a run has failed; 2 for a wrong configuration or another sweep's directory; 3 stopped by a
signal.

Example: polartrain sweep configs/demo.yaml --grid optimizer.groups.0.lr=0.01,0.02,0.04 train.max_steps=100)";

struct SweepOptions {
  std::string config, output;
  std::vector<std::string> overrides, grids;
  int64_t seeds = 1;
  int jobs = 1, threads = 0;
  bool dry_run = false, extend = false, allow_differences = false;
  std::vector<std::filesystem::path> compare;
};

// --compare: one table of several sweeps that have been run.
ExitCode compare_sweeps(const SweepOptions& options) {
  if (!options.config.empty() || !options.grids.empty())
    fail_usage("--compare takes directories of sweeps that have been run, and no CONFIG and no --grid");
  const std::vector<sweep::Compared> sweeps = sweep::load_sweeps(options.compare);
  if (const std::vector<std::string> lines = sweep::incomparable(sweeps);
      !lines.empty() && !options.allow_differences)
    fail_usage(
        "the losses of these sweeps cannot be compared:\n  {}\nexpected the same model, data, evaluation and "
        "tokens of a run; with --allow-differences they are compared, and this stands below the table",
        fmt::join(lines, "\n  "));
  const std::string table = sweep::comparison_table(sweeps);
  std::printf("%s", table.c_str());
  if (options.output.empty()) return ExitCode::done;
  const std::filesystem::path directory = options.output;
  std::filesystem::create_directories(directory);
  write_file_atomically(directory / "comparison.md", table);
  write_file_atomically(directory / "comparison.json", sweep::comparison_json(sweeps));
  log::info("written to {} (comparison.md, comparison.json)", directory.string());
  return ExitCode::done;
}

std::filesystem::path output_of(const SweepOptions& options, const sweep::Definition& definition) {
  return options.output.empty() ? definition.experiments.front().run.dir + "-sweep" : options.output;
}

void list_points(const sweep::Definition& definition, const std::filesystem::path& directory) {
  for (const sweep::Point& point : definition.points)
    std::printf("%s  %s\n", (directory / point.name).c_str(),
                fmt::format("{}", fmt::join(point.overrides, " ")).c_str());
  std::printf("%zu points x %lld seeds = %zu runs\n", definition.points.size(),
              static_cast<long long>(definition.seeds), definition.runs());
}

ExitCode run_sweep(const SweepOptions& options) {
  if (options.config.empty())
    fail_usage("sweep: found no CONFIG; `polartrain sweep --help` shows an example");
  const sweep::Definition definition =
      sweep::define(options.config, options.overrides, options.grids, options.seeds);
  const std::filesystem::path directory = output_of(options, definition);
  if (options.dry_run) {
    list_points(definition, directory);
    return ExitCode::done;
  }
  const sweep::Outcome outcome = sweep::run(definition, {.directory = directory,
                                                         .binary = launch::own_program(),
                                                         .program = program_version(),
                                                         .jobs = options.jobs,
                                                         .threads = options.threads,
                                                         .extend = options.extend});
  const std::string table = sweep::table_of(definition, outcome.results);
  write_file_atomically(directory / "sweep.md", table);
  write_file_atomically(directory / "sweep.html",
                        sweep::render_sweep(directory, definition, outcome.results));
  std::printf("%s", table.c_str());
  log::info("written to {} (sweep.html, sweep.md, sweep.json)", directory.string());
  if (outcome.code != ExitCode::done) log::info("the same call goes on with what has no result");
  return outcome.code;
}

}  // namespace

void add_sweep(CLI::App& app, Action& action) {
  auto options = std::make_shared<SweepOptions>();
  CLI::App* command = app.add_subcommand("sweep", "Train over a grid of settings and seeds, and rank them");
  command->add_option("config", options->config, "The experiment that all points begin with");
  command->add_option("overrides", options->overrides, "Dotted keys for all points, e.g. train.max_steps=20");
  command->add_option("--grid", options->grids, "A key and its values: key=v1,v2,... (repeatable)")
      ->allow_extra_args(false);
  command->add_option("--seeds", options->seeds, "Runs of each point: run.seed and those after it")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000));
  command->add_option("--output", options->output, "Directory of the sweep (run.dir with -sweep behind it)");
  command->add_option("--jobs", options->jobs, "Runs at a time")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  command
      ->add_option("--threads", options->threads,
                   "CPU threads of each run (0: the cores divided among the jobs)")
      ->check(CLI::Range(0, 4096));
  command->add_flag("--extend", options->extend,
                    "Go on with more values of the same keys, or more seeds, than before");
  command->add_flag("--dry-run", options->dry_run, "List the points and stop");
  command->add_option(
      "--compare", options->compare,
      "Directories of sweeps: one table of their best points, how much the loss depends on the values, "
      "and the cost of a step relative to the first one's; into OUTPUT/comparison.md and .json if given");
  command
      ->add_flag("--allow-differences", options->allow_differences,
                 "Compare sweeps of other models, data, evaluation or tokens of a run too, and say so below "
                 "the table")
      ->needs("--compare");
  for (CLI::Option* option : command->get_options())
    if (option->get_items_expected_max() == 1 && option->get_name() != "--grid")
      option->take_last();  // for scripts
  command->footer(kFooter);
  command->callback([options, &action] {
    action = [options] { return options->compare.empty() ? run_sweep(*options) : compare_sweeps(*options); };
  });
}

}  // namespace polar
