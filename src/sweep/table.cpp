#include "sweep/table.h"

#include <algorithm>

#include <fmt/format.h>

namespace polar::sweep {
namespace {

using Row = std::vector<std::string>;

Row row_of(const Definition& definition, const Results& results, const Ranked& ranked) {
  const Point& point = definition.points[ranked.point];
  Row row{ranked.rank == 0 ? "-" : std::to_string(ranked.rank)};
  for (size_t g = 0; g < definition.grids.size(); ++g)
    row.push_back(definition.grids[g].values[point.choice[g]]);
  if (definition.grids.empty()) row.push_back(point.name);
  const auto number = [&](double Spread::*value) {
    return ranked.spread ? loss_text((*ranked.spread).*value) : std::string("-");
  };
  row.push_back(number(&Spread::mean));
  row.push_back(ranked.spread && ranked.spread->count > 1 ? number(&Spread::deviation) : "-");
  row.push_back(number(&Spread::low));
  row.push_back(number(&Spread::high));
  row.push_back(
      fmt::format("{}/{}", ranked.spread ? ranked.spread->count : 0, results.points[ranked.point].size()));
  return row;
}

}  // namespace

namespace {

// Characters, not bytes, of UTF-8.
size_t width_of(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::string markdown(const std::vector<Row>& rows, size_t left) {
  std::vector<size_t> widths(rows.front().size(), 3);
  for (const Row& row : rows)
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width_of(row[c]));
  std::string text;
  for (size_t r = 0; r < rows.size(); ++r) {
    for (size_t c = 0; c < rows[r].size(); ++c)
      text += c < left ? fmt::format("| {:<{}} ", rows[r][c], widths[c])
                       : fmt::format("| {:>{}} ", rows[r][c], widths[c]);
    text += "|\n";
    if (r > 0) continue;
    for (size_t c = 0; c < widths.size(); ++c)
      text += fmt::format("|{:-<{}}{}", "", widths[c] + 1, c < left ? "-" : ":");
    text += "|\n";
  }
  return text;
}

std::string loss_text(double loss) {
  return loss < 1e4 ? fmt::format("{:.4f}", loss) : fmt::format("{:.3g}", loss);
}

std::string shortfall(const Results& results) {
  size_t runs = 0;
  for (const auto& point : results.points) runs += point.size();
  const size_t done = count(results, State::done);
  if (done == runs) return "";
  std::string parts;
  for (const State state : {State::diverged, State::failed, State::stopped, State::pending})
    if (const size_t n = count(results, state); n > 0)
      parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", n, name_of(state));
  return fmt::format("{} of {} runs {} no result: {}", runs - done, runs, runs - done == 1 ? "has" : "have",
                     parts);
}

std::string table_of(const Definition& definition, const Results& results) {
  Row head{"rank"};
  for (const Grid& grid : definition.grids) head.push_back(grid.name);
  if (definition.grids.empty()) head.push_back("point");
  const size_t left = head.size();
  head.insert(head.end(), {"val. loss", "std. dev.", "lowest", "highest", "seeds"});
  std::vector<Row> rows{head};
  for (const Ranked& ranked : ranking(results)) rows.push_back(row_of(definition, results, ranked));
  std::string text = markdown(rows, left);
  if (const std::string missing = shortfall(results); !missing.empty()) text += "\n" + missing + "\n\n";
  for (size_t p = 0; p < results.points.size(); ++p)
    for (const RunResult& run : results.points[p])
      if (run.state != State::done && run.state != State::pending)
        text += fmt::format("* {} seed {}: {} at step {} (exit code {}): {}\n", definition.points[p].name,
                            run.seed, name_of(run.state), run.steps, run.exit_code, run.message);
  return text;
}

}  // namespace polar::sweep
