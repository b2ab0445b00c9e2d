#include "sweep/page.h"

#include <fmt/format.h>

#include <string_view>

#include "report/page.h"
#include "report/progress.h"
#include "sweep/curves.h"
#include "sweep/plots.h"
#include "sweep/table.h"

namespace polar::sweep {
namespace {

namespace fs = std::filesystem;

// A relative path as the target of a link.
std::string link_to(const std::string& path) {
  std::string result;
  for (const char c : path) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       std::string_view("/=,.+-_~").find(c) != std::string_view::npos;
    result += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

// Each seed's loss or state, with a link to its report where there is one.
std::string seeds_cell(const fs::path& sweep, const Point& point, const std::vector<RunResult>& runs) {
  std::string html;
  for (const RunResult& run : runs) {
    const std::string text = run.val_loss ? loss_text(*run.val_loss) : name_of(run.state);
    const fs::path report = run_directory("", point, run.seed) / "report.html";
    html += html.empty() ? "" : " · ";
    html += fs::exists(sweep / report) ? fmt::format("<a href=\"{}\" title=\"seed {}\">{}</a>",
                                                     link_to(report.string()), run.seed, text)
                                       : text;
  }
  return html;
}

std::string ranking_table(const fs::path& sweep, const Definition& definition, const Results& results) {
  std::string html = "<div class=\"scroll\"><table class=\"numbers\"><thead><tr><th>Rank</th>";
  if (definition.grids.empty()) html += "<th>Point</th>";
  for (const Grid& grid : definition.grids)
    html += fmt::format("<th title=\"{}\">{}</th>", escape_html(fmt::format("{}", fmt::join(grid.keys, " "))),
                        escape_html(grid.name));
  html +=
      "<th>Validation loss</th><th>Std. "
      "dev.</th><th>Lowest</th><th>Highest</th><th>Seeds</th></tr></thead><tbody>\n";
  for (const Ranked& ranked : ranking(results)) {
    const Point& point = definition.points[ranked.point];
    html += fmt::format("<tr><th>{}</th>", ranked.rank == 0 ? "–" : std::to_string(ranked.rank));
    if (definition.grids.empty()) html += fmt::format("<td>{}</td>", escape_html(point.name));
    for (size_t g = 0; g < definition.grids.size(); ++g)
      html += fmt::format("<td>{}</td>", escape_html(definition.grids[g].values[point.choice[g]]));
    const auto cell = [&](double Spread::*value, size_t least) {
      const bool there = ranked.spread && ranked.spread->count >= least;
      return fmt::format("<td>{}</td>", there ? loss_text((*ranked.spread).*value) : std::string("–"));
    };
    const std::string mean = cell(&Spread::mean, 1);
    html += ranked.rank == 1 ? "<td class=\"best\"" + mean.substr(3) : mean;
    html += cell(&Spread::deviation, 2) + cell(&Spread::low, 1) + cell(&Spread::high, 1);
    html += fmt::format("<td>{}</td></tr>\n", seeds_cell(sweep, point, results.points[ranked.point]));
  }
  return html + "</tbody></table></div>\n";
}

// Run by run, what has ended without a result.
std::string losses_section(const Definition& definition, const Results& results) {
  std::string rows;
  for (size_t p = 0; p < results.points.size(); ++p)
    for (const RunResult& run : results.points[p])
      if (run.state != State::done && run.state != State::pending)
        rows += fmt::format("<tr><th>{} seed {}</th><td>{} at step {} (exit code {})</td><td>{}</td></tr>\n",
                            escape_html(definition.points[p].name), run.seed, name_of(run.state), run.steps,
                            run.exit_code, escape_html(run.message));
  if (rows.empty()) return "";
  return "<h2>Runs without a result</h2>\n<div class=\"scroll\"><table>" + rows + "</table></div>\n";
}

std::string settings_note(const Definition& definition, const Results& results) {
  double seconds = 0.0;
  for (const auto& runs : results.points)
    for (const RunResult& run : runs) seconds += run.seconds;
  std::string note =
      fmt::format("{} points of {}, {} {} from {} on; the runs took {} together.", definition.points.size(),
                  definition.config, definition.seeds, definition.seeds == 1 ? "seed" : "seeds",
                  definition.first_seed, human_duration(seconds));
  if (!definition.overrides.empty())
    note += fmt::format(" For all: {}.", fmt::join(definition.overrides, " "));
  if (const std::string missing = shortfall(results); !missing.empty()) note += " " + missing + ".";
  return fmt::format("<p class=\"note\">{}</p>\n", escape_html(note));
}

std::string name_of_directory(const fs::path& sweep) {
  fs::path path = fs::absolute(sweep).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

}  // namespace

std::string render_sweep(const fs::path& sweep, const Definition& definition, const Results& results) {
  const std::vector<RunData> curves = mean_curves(sweep, definition, results);
  return render_document({.title = name_of_directory(sweep),
                          .kind = "sweep",
                          .style = kPlotStyle,
                          .runs = curves,
                          .before = settings_note(definition, results) + "<h2>Ranking</h2>\n" +
                                    ranking_table(sweep, definition, results) +
                                    losses_section(definition, results) +
                                    loss_over_keys(definition, results) + heat_maps(definition, results) +
                                    "<h2>Learning curves, means over the seeds</h2>\n",
                          .after = ""});
}

}  // namespace polar::sweep
