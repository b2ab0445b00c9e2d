// The report of one or several training runs: one self-contained HTML page and a PNG of the loss curves.
#pragma once

#include <filesystem>
#include <vector>

namespace polar {

// Where the files go. An empty path means the default: report.html and loss.png in the run's directory for
// one run, in the current directory for several. With only `html` given, the picture stands beside it.
struct ReportOptions {
  std::filesystem::path html;
  std::filesystem::path png;
};

struct ReportPaths {
  std::filesystem::path html;
  std::filesystem::path png;  // empty when no picture could be drawn (gnuplot is missing or failed)
};

// Reads metrics.jsonl (required), config.yaml and sample.txt (where they exist) of every run's directory and
// writes the report. The page needs no network: style, script and data are inside it. A picture that cannot
// be drawn is a logged warning, the page is written all the same.
// Errors: exit code 2 for no run, a directory that is missing or holds no logged step; exit code 1 for a
// damaged metrics.jsonl or config.yaml, and for files that cannot be written.
ReportPaths write_report(const std::vector<std::filesystem::path>& runs, const ReportOptions& options = {});

}  // namespace polar
