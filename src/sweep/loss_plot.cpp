#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/page.h"
#include "sweep/plots.h"
#include "sweep/table.h"

namespace polar::sweep {
namespace {

constexpr double kWidth = 440, kHeight = 250, kLeft = 58, kRight = 16, kTop = 16, kBottom = 34;
constexpr int kTicks = 4;

// Where the values of a grid stand: by size, on a logarithmic scale if they span some; else one beside the
// other.
struct Axis {
  std::vector<double> x;  // pixels
  std::vector<size_t> order;
  bool numeric;
};

Axis axis_of(const Grid& grid) {
  const auto numbers = as_numbers(grid.values);
  Axis axis{.x = {}, .order = {}, .numeric = numbers.has_value()};
  std::vector<double> places;
  for (size_t i = 0; i < grid.values.size(); ++i) {
    axis.order.push_back(i);
    places.push_back(numbers ? (*numbers)[i] : static_cast<double>(i));
  }
  const auto [smallest, largest] = std::minmax_element(places.begin(), places.end());
  if (numbers && *smallest > 0.0 && *largest >= 4.0 * *smallest)
    for (double& place : places) place = std::log(place);
  const double low = *smallest, high = *largest;
  std::sort(axis.order.begin(), axis.order.end(), [&](size_t a, size_t b) { return places[a] < places[b]; });
  const double margin = 24, room = kWidth - kLeft - kRight - 2 * margin;
  for (const double place : places)
    axis.x.push_back(kLeft + margin + (high > low ? (place - low) / (high - low) : 0.5) * room);
  return axis;
}

struct Dot {
  double x;
  double loss;
  bool joined = false;  // by the line to the one before: no value without a result lies between
};

// What one picture shows.
struct Picture {
  const Grid& grid;
  Axis axis;
  std::vector<Dot> seeds;    // of the best point of each value
  std::vector<Dot> line;     // its mean
  std::vector<double> lost;  // x of values without any ranked point
  double low = 0.0, high = 1.0;

  double y(double loss) const {
    const double share = (std::min(loss, high) - low) / (high - low);
    return kHeight - kBottom - share * (kHeight - kBottom - kTop);
  }
};

void find_range(Picture& picture) {
  std::vector<double> losses;
  for (const Dot& dot : picture.seeds) losses.push_back(dot.loss);
  if (losses.empty()) return;
  picture.low = *std::min_element(losses.begin(), losses.end());
  picture.high = upper_end(losses);
  const double margin = 0.08 * (picture.high > picture.low ? picture.high - picture.low : 1.0);
  picture.low -= margin;
  picture.high += margin;
}

Picture make_picture(const Definition& definition, const Results& results, const std::vector<Ranked>& order,
                     size_t grid) {
  Picture picture{.grid = definition.grids[grid],
                  .axis = axis_of(definition.grids[grid]),
                  .seeds = {},
                  .line = {},
                  .lost = {}};
  bool joined = false;
  for (const size_t v : picture.axis.order) {
    std::vector<int> values(definition.grids.size(), -1);
    values[grid] = static_cast<int>(v);
    const double x = picture.axis.x[v];
    const Best best = best_with(definition, results, order, values);
    if (!best.loss) {
      if (best.tried) picture.lost.push_back(x);
      joined = false;
      continue;
    }
    picture.line.push_back({x, *best.loss, joined});
    joined = true;
    for (const RunResult& run : results.points[best.point]) picture.seeds.push_back({x, *run.val_loss});
  }
  find_range(picture);
  return picture;
}

std::string axes_of(const Picture& picture) {
  std::string svg;
  for (int i = 0; i <= kTicks; ++i) {
    const double loss = picture.low + (picture.high - picture.low) * i / kTicks, y = picture.y(loss);
    svg += fmt::format(R"(<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>)", kLeft,
                       kWidth - kRight, y, y);
    svg += fmt::format(R"(<text x="{}" y="{:.1f}" text-anchor="end">{})", kLeft - 6, y + 4, loss_text(loss)) +
           "</text>";
  }
  for (size_t v = 0; v < picture.axis.x.size(); ++v)
    svg += fmt::format(R"(<text x="{:.1f}" y="{}" text-anchor="middle">{})", picture.axis.x[v], kHeight - 12,
                       escape_html(picture.grid.values[v])) +
           "</text>";
  return svg;
}

std::string dot_of(const Picture& picture, const Dot& dot) {
  if (dot.loss <= picture.high)
    return fmt::format(R"(<circle class="seed" cx="{:.1f}" cy="{:.1f}" r="3.5"/>)", dot.x,
                       picture.y(dot.loss));
  return fmt::format(R"(<text x="{:.1f}" y="{}" text-anchor="middle">▲</text>)", dot.x, kTop - 4);
}

// The number of a mean above the range.
std::string number_of(const Picture& picture, const Dot& dot) {
  if (dot.loss <= picture.high) return "";
  return fmt::format(R"(<text x="{:.1f}" y="{}" text-anchor="end">{}</text>)", dot.x - 8, kTop - 4,
                     loss_text(dot.loss));
}

std::string svg_of(const Picture& picture) {
  std::string svg =
      fmt::format(R"(<svg viewBox="0 0 {} {}" width="{}" role="img" aria-label="loss over {}">)", kWidth,
                  kHeight, kWidth, escape_html(picture.grid.name)) +
      axes_of(picture);
  if (picture.axis.numeric && picture.line.size() > 1) {
    std::string path;
    for (const Dot& dot : picture.line)
      path += fmt::format("{}{:.1f} {:.1f}", dot.joined ? "L" : "M", dot.x, picture.y(dot.loss));
    svg += fmt::format(R"(<path class="curve-1d" d="{}"/>)", path);
  }
  for (const Dot& dot : picture.seeds) svg += dot_of(picture, dot);
  for (const Dot& dot : picture.line) svg += number_of(picture, dot);
  for (const double x : picture.lost)
    svg += fmt::format(R"(<path class="lost" d="M{0:.1f} {2}l8 8m0 -8l-8 8"/><text x="{1:.1f}" y="{3}" )"
                       R"(text-anchor="middle">no result</text>)",
                       x - 4, x, kTop, kTop + 24);
  return svg + "</svg>";
}

}  // namespace

std::string loss_over_keys(const Definition& definition, const Results& results) {
  const std::vector<Ranked> order = ranking(results);
  std::string html;
  for (size_t g = 0; g < definition.grids.size(); ++g) {
    if (definition.grids[g].values.size() < 2) continue;
    html += fmt::format("<figure><figcaption>validation loss over {}</figcaption>{}</figure>\n",
                        escape_html(definition.grids[g].name),
                        svg_of(make_picture(definition, results, order, g)));
  }
  if (html.empty()) return "";
  const char* others = definition.grids.size() > 1 ? ", of the best point over the other keys" : "";
  return fmt::format(
      "<h2>Loss over each key</h2>\n<p class=\"note\">Every dot a seed{}; the line joins their means. ▲: "
      "above the "
      "picture.</p>\n<div class=\"plots\">{}</div>\n",
      others, html);
}

}  // namespace polar::sweep
