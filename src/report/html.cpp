#include "report/html.h"

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "report/page.h"
#include "report/picture.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

ReportPaths choose_paths(const std::vector<fs::path>& runs, const ReportOptions& options) {
  const fs::path folder = runs.size() == 1 ? runs.front() : fs::path(".");
  ReportPaths paths{options.html, options.png};
  if (paths.html.empty()) paths.html = folder / "report.html";
  if (paths.png.empty())
    paths.png = options.html.empty() ? folder / "loss.png" : options.html.parent_path() / "loss.png";
  return paths;
}

}  // namespace

ReportPaths write_report(const std::vector<fs::path>& runs, const ReportOptions& options) {
  const std::vector<RunData> data = load_runs(runs);
  ReportPaths paths = choose_paths(runs, options);
  write_file_atomically(paths.html, render_page(data));
  try {
    draw_loss_curves(data, paths.png);
  } catch (const Error& e) {
    log::warning("no picture of the loss curves: {}", e.what());
    paths.png.clear();
  }
  return paths;
}

}  // namespace polar
