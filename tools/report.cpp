// polartrain report: the curves and final numbers of one or several runs as a self-contained HTML page.
#include "report/html.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "command.h"

namespace polar {
namespace {

constexpr const char* kExample =
    "Writes report.html and loss.png into the run's directory (several runs: into the current directory).\n\n"
    "Example: polartrain report runs/demo\n"
    "         polartrain report runs/muon runs/polargrad --output compare.html --png compare.png";

struct Options {
  std::vector<std::filesystem::path> runs;
  ReportOptions report;
};

}  // namespace

void add_report(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("report", "Write a HTML page with the curves of one or several runs");
  command->footer(kExample);
  const auto options = std::make_shared<Options>();
  command->add_option("RUN", options->runs, "directories of training runs (each holds a metrics.jsonl)")
      ->required();
  command->add_option("--output", options->report.html, "the HTML file (default: report.html)");
  command->add_option("--png", options->report.png, "the picture of the loss curves (default: loss.png)");
  command->callback([&action, options] {
    action = [options] {
      const ReportPaths paths = write_report(options->runs, options->report);
      fmt::print("{}\n", paths.html.string());
      if (!paths.png.empty()) fmt::print("{}\n", paths.png.string());
      return ExitCode::done;
    };
  });
}

}  // namespace polar
