#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/page.h"
#include "sweep/plots.h"
#include "sweep/table.h"

namespace polar::sweep {
namespace {

// Rows are the first grid's values, columns the second's.
struct Map {
  const Definition& definition;
  size_t rows, columns;  // grids
  std::vector<std::vector<Best>> cells;
  double low, high;  // of the colours

  const Grid& row_grid() const { return definition.grids[rows]; }
  const Grid& column_grid() const { return definition.grids[columns]; }
};

Map make_map(const Definition& definition, const Results& results, const std::vector<Ranked>& order,
             size_t rows, size_t columns) {
  Map map{definition, rows, columns, {}, 0.0, 0.0};
  std::vector<double> losses;
  for (size_t r = 0; r < map.row_grid().values.size(); ++r) {
    map.cells.emplace_back();
    for (size_t c = 0; c < map.column_grid().values.size(); ++c) {
      std::vector<int> values(definition.grids.size(), -1);
      values[rows] = static_cast<int>(r);
      values[columns] = static_cast<int>(c);
      map.cells.back().push_back(best_with(definition, results, order, values));
      if (const auto& loss = map.cells.back().back().loss) losses.push_back(*loss);
    }
  }
  if (losses.empty()) return map;
  map.low = *std::min_element(losses.begin(), losses.end());
  map.high = upper_end(losses);
  return map;
}

// Strong for the best, nothing for what is at the upper end or beyond.
std::string cell_of(const Map& map, const Best& best) {
  if (!best.loss) return fmt::format("<td class=\"none\">{}</td>", best.tried ? "no result" : "–");
  const double share = map.high > map.low ? (map.high - *best.loss) / (map.high - map.low) : 1.0;
  return fmt::format("<td{} style=\"--heat:{:.0f}%\" title=\"{}\">{}</td>",
                     *best.loss == map.low ? " class=\"best\"" : "", 60.0 * std::clamp(share, 0.0, 1.0),
                     escape_html(map.definition.points[best.point].name), loss_text(*best.loss));
}

std::string html_of(const Map& map) {
  std::string html =
      fmt::format("<figure class=\"heat\"><figcaption>rows {}, columns {}</figcaption><table>\n<tr><th></th>",
                  escape_html(map.row_grid().name), escape_html(map.column_grid().name));
  for (const std::string& value : map.column_grid().values)
    html += fmt::format("<th>{}</th>", escape_html(value));
  html += "</tr>\n";
  for (size_t r = 0; r < map.cells.size(); ++r) {
    html += fmt::format("<tr><th>{}</th>", escape_html(map.row_grid().values[r]));
    for (const Best& best : map.cells[r]) html += cell_of(map, best);
    html += "</tr>\n";
  }
  return html + "</table></figure>\n";
}

}  // namespace

Best best_with(const Definition& definition, const Results& results, const std::vector<Ranked>& order,
               const std::vector<int>& values) {
  Best best;
  for (const Ranked& ranked : order) {
    const std::vector<size_t>& choice = definition.points[ranked.point].choice;
    bool fits = true;
    for (size_t g = 0; g < choice.size(); ++g)
      fits = fits && (values[g] < 0 || choice[g] == static_cast<size_t>(values[g]));
    if (!fits) continue;
    for (const RunResult& run : results.points[ranked.point])
      best.tried = best.tried || run.state != State::pending;
    if (ranked.rank == 0 || best.loss) continue;  // the order is by loss
    best.loss = ranked.spread->mean;
    best.point = ranked.point;
  }
  return best;
}

double upper_end(std::vector<double> losses) {
  std::sort(losses.begin(), losses.end());
  const double low = losses.front(), median = losses[losses.size() / 2];
  const double limit = low + 4.0 * (median - low);
  return losses.size() < 3 ? losses.back() : std::min(losses.back(), limit);
}

std::string heat_maps(const Definition& definition, const Results& results) {
  const std::vector<Ranked> order = ranking(results);
  std::string html;
  for (size_t a = 0; a < definition.grids.size(); ++a)
    for (size_t b = a + 1; b < definition.grids.size(); ++b)
      if (definition.grids[a].values.size() > 1 && definition.grids[b].values.size() > 1)
        html += html_of(make_map(definition, results, order, a, b));
  if (html.empty()) return "";
  const char* others = definition.grids.size() > 2 ? ", the best over the other keys" : "";
  return fmt::format(
      "<h2>Heat maps</h2>\n<p class=\"note\">Mean validation loss over the seeds{}; the stronger the lower. "
      "A point of "
      "which a seed is missing has no result.</p>\n<div class=\"plots\">{}</div>\n",
      others, html);
}

const char* const kPlotStyle = R"css(
.plots { display: flex; flex-wrap: wrap; gap: 16px; }
figure { margin: 0; padding: 14px 16px; background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  box-shadow: var(--shadow); max-width: 100%; overflow-x: auto; }
figcaption { color: var(--soft); margin-bottom: 8px; }
.heat table { min-width: 0; border-collapse: separate; border-spacing: 2px; }
.heat th { color: var(--soft); font-weight: 400; border: 0; }
.heat td { text-align: right; border: 0; border-radius: 5px; font-variant-numeric: tabular-nums; color: var(--text);
  background: color-mix(in srgb, var(--accent) var(--heat), var(--grid)); }
.heat .none { background: repeating-linear-gradient(45deg, var(--grid) 0 5px, var(--card) 5px 10px);
  color: var(--soft); }
.curve-1d { stroke: var(--accent); stroke-width: 1.8; fill: none; }
.seed { fill: var(--accent); opacity: .55; }
.lost { stroke: var(--text); stroke-width: 1.6; }
figure text { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
figure .grid { stroke: var(--grid); }
)css";

}  // namespace polar::sweep
