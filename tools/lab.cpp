// polartrain lab: optimizers on matrix problems whose truth is known.
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "base/log.h"
#include "command.h"
#include "lab/experiment.h"
#include "lab/figures.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

constexpr const char* kExample =
    "Example: polartrain lab quadratic --seeds 1 --only Muon --only ZOLO\n"
    "         polartrain lab quadratic --draw torch --first-seed 42 --seeds 1     the paper's own matrices\n"
    "         polartrain lab all --suite paper --output runs/lab";

struct LabOptions {
  std::string device = "auto", output = "runs/lab", suite = "paper", draw = "polartrain";
  std::vector<std::string> only;
  std::optional<int64_t> steps, every;
  std::optional<double> lr;
  int64_t seeds = 3, first_seed = 1;
  int threads = 0;
  bool list = false;
  lab::QuadraticSizes quadratic;
  lab::LogisticSizes logistic;
  lab::CompletionSizes completion;
};

// One of the problems: its suite, its sizes by the names of their options, and how a draw of it is made.
struct Subject {
  lab::Suite suite;
  std::vector<std::pair<std::string, double>> sizes;
  std::function<std::unique_ptr<lab::Problem>(Ops&, uint64_t seed, lab::Generator)> make;
};

Subject quadratic_of(const lab::QuadraticSizes& s) {
  return {lab::quadratic_suite(),
          {{"m", s.m}, {"n", s.n}, {"p", s.p}, {"q", s.q}},
          [s](Ops& ops, uint64_t seed, lab::Generator by) { return lab::make_quadratic(ops, s, seed, by); }};
}
Subject logistic_of(const lab::LogisticSizes& s) {
  return {lab::logistic_suite(),
          {{"rows", s.rows}, {"m", s.m}, {"n", s.n}, {"q", s.q}, {"batch", s.batch}},
          [s](Ops& ops, uint64_t seed, lab::Generator by) { return lab::make_logistic(ops, s, seed, by); }};
}
Subject completion_of(const lab::CompletionSizes& s) {
  return {lab::completion_suite(),
          {{"m", s.m}, {"n", s.n}, {"rank", s.rank}, {"share", s.share}},
          [s](Ops& ops, uint64_t seed, lab::Generator by) { return lab::make_completion(ops, s, seed, by); }};
}

// The settings whose names contain one of the parts; all without any.
std::vector<lab::Setting> chosen_settings(const LabOptions& options, const lab::Suite& suite) {
  std::vector<lab::Setting> chosen;
  std::string names;
  for (const lab::Setting& setting : suite.settings) {
    names += "\n  " + setting.name;
    const bool wanted = std::any_of(options.only.begin(), options.only.end(), [&](const std::string& part) {
      return setting.name.find(part) != std::string::npos;
    });
    if (!wanted && !options.only.empty()) continue;
    chosen.push_back(setting);
    if (options.lr) chosen.back().group.lr = *options.lr;
  }
  for (const std::string& part : options.only)
    if (names.find(part) == std::string::npos || part.empty())
      fail_usage("--only: found \"{}\", expected a part of one of these names of {}:{}", part, suite.problem,
                 names);
  return chosen;
}

void list_settings(const LabOptions& options, const lab::Suite& suite) {
  std::printf("%s\n", suite.title.c_str());
  for (const lab::Setting& setting : chosen_settings(options, suite))
    std::printf("  %-28s lr %-9s %-22s %s\n", setting.name.c_str(),
                fmt::format("{:g}", setting.group.lr).c_str(),
                setting.decay == 1.0
                    ? ""
                    : fmt::format("x{:g} every {} steps", setting.decay, setting.decay_every).c_str(),
                lab::rule_of(setting).c_str());
}

// The suite's columns as far as they were measured, and the last step.
std::vector<int64_t> table_steps(const lab::Suite& suite, int64_t steps, int64_t every) {
  std::vector<int64_t> columns;
  for (const int64_t step : suite.table_steps)
    if (step < steps && lab::is_measured(step, every, steps)) columns.push_back(step);
  columns.push_back(steps);
  return columns;
}

void write_results(const lab::Experiment& experiment, const fs::path& dir) {
  fs::create_directories(dir);
  write_file_atomically(dir / (experiment.problem + ".json"), lab::to_json(experiment).dump() + "\n");
  write_file_atomically(dir / (experiment.problem + ".md"), lab::to_markdown(lab::gap_table(experiment)));
}

void write_figures(const lab::Experiment& experiment, const fs::path& dir) {
  write_file_atomically(dir / (experiment.problem + ".html"), lab::render_page(experiment));
  try {
    lab::draw_picture(experiment, dir / (experiment.problem + ".png"));
  } catch (const Error& e) {
    log::warning("no picture: {}", e.what());
  }
}

void run_draw(Ops& ops, const Subject& subject, const std::vector<lab::Setting>& settings, uint64_t seed,
              int64_t steps, int64_t every, lab::Experiment& experiment) {
  const auto problem = subject.make(ops, seed, experiment.generator);
  experiment.quantities = problem->quantities();
  experiment.draws.push_back({seed, problem->minimum(), problem->minimum_by()});
  for (size_t i = 0; i < settings.size(); ++i) {
    const auto progress = [&](int64_t step, double gap) {
      if (log::is_terminal())
        log::progress(fmt::format("{}, seed {}, {}: step {}/{}, gap {:.2e}", experiment.problem, seed,
                                  settings[i].name, step, steps, gap));
    };
    experiment.settings[i].push_back(lab::run(ops, *problem, settings[i], steps, every, seed, progress));
  }
}

void print_table(const lab::Experiment& experiment, const fs::path& dir) {
  std::printf("%s, %s\n%s\n", experiment.title.c_str(), lab::draw_text(experiment).c_str(),
              lab::to_markdown(lab::gap_table(experiment)).c_str());
  log::info("written to {}: {}.json, .md, .html, .png", dir.string(), experiment.problem);
}

void run_subject(const LabOptions& options, const Subject& subject) {
  if (options.list) return list_settings(options, subject.suite);
  const std::vector<lab::Setting> settings = chosen_settings(options, subject.suite);
  const auto ops = make_ops({.device = options.device, .threads = options.threads});
  const int64_t steps = options.steps.value_or(subject.suite.steps),
                every = options.every.value_or(subject.suite.every);
  lab::Experiment experiment{.problem = subject.suite.problem,
                             .title = subject.suite.title,
                             .device = ops->device_name(),
                             .version = program_version(),
                             .sizes = subject.sizes,
                             .generator = lab::generator_of(options.draw),
                             .quantities = {},
                             .table_steps = table_steps(subject.suite, steps, every),
                             .draws = {},
                             .settings = std::vector<std::vector<lab::Result>>(settings.size())};
  const fs::path dir = options.output;
  for (int64_t s = 0; s < options.seeds; ++s) {
    run_draw(*ops, subject, settings, static_cast<uint64_t>(options.first_seed + s), steps, every,
             experiment);
    write_results(experiment, dir);  // a long experiment that is cut loses one draw at most
  }
  log::finish_progress();
  write_figures(experiment, dir);
  print_table(experiment, dir);
}

void add_common(CLI::App& command, const std::shared_ptr<LabOptions>& options) {
  const CLI::Range positive(1, 1000000);
  command.add_option("--suite", options->suite, "Settings: those of the paper")
      ->capture_default_str()
      ->check(CLI::IsMember({"paper"}));
  command.add_flag("--list", options->list, "Print the settings and run nothing");
  command.add_option("--only", options->only, "Only settings whose names contain one of these");
  command.add_option("--lr", options->lr, "Learning rate of all settings, instead of their own")
      ->check(CLI::PositiveNumber);
  command.add_option("--steps", options->steps, "Optimizer steps of each run (default: the paper's)")
      ->check(positive);
  command
      .add_option("--every", options->every,
                  "Steps between measurements; at the start, until five times that, ten times as often")
      ->check(positive);
  command
      .add_option(
          "--draw", options->draw,
          "Generator of the random matrices: polartrain, or torch: as PyTorch's CPU generator draws them "
          "in the authors' scripts, whose seed is 42")
      ->capture_default_str()
      ->check(CLI::IsMember({"polartrain", "torch"}));
  command.add_option("--seeds", options->seeds, "Draws of the problem; tables show the median")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command.add_option("--first-seed", options->first_seed, "Seed of the first draw")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000000000));
  command.add_option("--output", options->output, "Folder for JSON, table, page and picture")
      ->capture_default_str();
  command.add_option("--device,--backend", options->device, "cpu, cuda or auto")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda", "auto"}));
  command.add_option("--threads", options->threads, "CPU threads (0: all)")->check(CLI::Range(0, 4096));
  command.footer(kExample);
}

void add_join(CLI::App& lab, Action& action) {
  struct JoinOptions {
    std::vector<fs::path> files;
    fs::path output = "runs/lab";
  };
  const auto options = std::make_shared<JoinOptions>();
  CLI::App* command = lab.add_subcommand("join", "Put the draws of several experiments together");
  command->add_option("FILE", options->files, "JSON files of one problem, with draws of their own")
      ->required();
  command->add_option("--output", options->output, "Folder for JSON, table, page and picture")
      ->capture_default_str();
  command->footer("Example: polartrain lab join a/quadratic.json b/quadratic.json --output runs/lab");
  command->callback([options, &action] {
    action = [options] {
      const lab::Experiment experiment = lab::joined(options->files);
      write_results(experiment, options->output);
      write_figures(experiment, options->output);
      print_table(experiment, options->output);
      return ExitCode::done;
    };
  });
}

void add_size(CLI::App& command, const char* name, int64_t& value, const char* what) {
  command.add_option(name, value, what)->capture_default_str()->check(CLI::Range(1, 10000000));
}

}  // namespace

void add_lab(CLI::App& app, Action& action) {
  const auto options = std::make_shared<LabOptions>();
  CLI::App* lab = app.add_subcommand("lab", "Optimizers on matrix problems whose truth is known");
  lab->require_subcommand(1);
  lab->footer(kExample);
  const auto add = [&](const char* name, const char* what, std::function<std::vector<Subject>()> subjects) {
    CLI::App* command = lab->add_subcommand(name, what);
    add_common(*command, options);
    command->callback([options, subjects, &action] {
      action = [options, subjects] {
        for (const Subject& subject : subjects()) run_subject(*options, subject);
        return ExitCode::done;
      };
    });
    return command;
  };
  const auto of_quadratic = [options] { return quadratic_of(options->quadratic); };
  const auto of_logistic = [options] { return logistic_of(options->logistic); };
  const auto of_completion = [options] { return completion_of(options->completion); };

  CLI::App* quadratic = add("quadratic", "f(X) = 1/2 ||A X B - C||^2, section 6.1 of the PolarGrad paper",
                            [of_quadratic] { return std::vector{of_quadratic()}; });
  add_size(*quadratic, "-m", options->quadratic.m, "Rows of X, columns of A");
  add_size(*quadratic, "-n", options->quadratic.n, "Columns of X, rows of B");
  add_size(*quadratic, "-p", options->quadratic.p, "Rows of A and C");
  add_size(*quadratic, "-q", options->quadratic.q, "Columns of B and C");

  CLI::App* logistic = add("logistic", "f(X) = sum softplus(-C .* (A X B)) by mini-batches, section 6.2",
                           [of_logistic] { return std::vector{of_logistic()}; });
  add_size(*logistic, "--rows", options->logistic.rows, "Rows of A and C");
  add_size(*logistic, "-m", options->logistic.m, "Rows of X, columns of A");
  add_size(*logistic, "-n", options->logistic.n, "Columns of X, rows of B");
  add_size(*logistic, "-q", options->logistic.q, "Columns of B and C");
  add_size(*logistic, "--batch", options->logistic.batch, "Rows of a mini-batch");

  CLI::App* completion = add("completion", "f(X, Y) = ||mask .* (X Y^T - M)||^2 / |mask|, section 6.3",
                             [of_completion] { return std::vector{of_completion()}; });
  add_size(*completion, "-m", options->completion.m, "Rows of M and X");
  add_size(*completion, "-n", options->completion.n, "Columns of M, rows of Y");
  add_size(*completion, "--rank", options->completion.rank, "Columns of X and Y");
  completion->add_option("--share", options->completion.share, "Share of the elements of M that are seen")
      ->capture_default_str()
      ->check(CLI::Range(1e-6, 1.0));

  add("all", "The three problems, one after the other", [of_quadratic, of_logistic, of_completion] {
    return std::vector{of_quadratic(), of_logistic(), of_completion()};
  });
  add_join(*lab, action);
}

}  // namespace polar
