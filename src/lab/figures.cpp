#include "lab/figures.h"

#include <fmt/format.h>

#include <cmath>

#include "report/gnuplot.h"
#include "report/picture.h"

namespace polar::lab {
namespace {

namespace fs = std::filesystem;

constexpr int kPanelWidth = 620, kPanelHeight = 420, kLegendLine = 26;

// What a logarithmic axis can show.
bool is_shown(const Spread& spread) {
  return std::isfinite(spread.most) && spread.least > 0.0;
}

// A data block a setting: step, median, least, most. Step 0 has no place on a logarithmic axis.
struct Curves {
  std::string data;
  std::vector<size_t> settings;  // those with something to show
};
Curves curves_of(const Experiment& experiment, size_t quantity) {
  Curves curves;
  for (size_t i = 0; i < experiment.settings.size(); ++i) {
    std::string lines;
    for (const int64_t step : common_steps(experiment.settings[i])) {
      const std::optional<Spread> spread = spread_at(experiment.settings[i], step, quantity);
      if (step > 0 && is_shown(*spread))
        lines += fmt::format("{} {:.4e} {:.4e} {:.4e}\n", step, spread->median, spread->least, spread->most);
    }
    if (lines.empty()) continue;
    curves.data += fmt::format("$q{}s{} << EOD\n{}EOD\n", quantity, i, lines);
    curves.settings.push_back(i);
  }
  return curves;
}

std::string plot_of(const Experiment& experiment, size_t quantity, const Curves& curves) {
  std::string plot = fmt::format("set title {}\n", gnuplot_quoted(experiment.quantities[quantity].label));
  if (curves.settings.empty()) return plot + "plot [1:10][1:10] NaN notitle\n";
  plot += "plot ";
  const char* separator = "";
  for (const size_t i : curves.settings) {
    const Style style = style_of(i);
    if (experiment.settings[i].size() > 1)
      plot += fmt::format(
          "{}$q{}s{} using 1:3:4 with filledcurves fs transparent solid 0.15 noborder lc rgb '{}' "
          "notitle",
          separator, quantity, i, style.color);
    else
      plot += separator + std::string("NaN notitle");
    separator = ", \\\n  ";
    plot += fmt::format("{}$q{}s{} using 1:2 with lines lc rgb '{}' dt {} lw 1.6 notitle", separator,
                        quantity, i, style.color, style.dashes);
  }
  return plot + "\n";
}

constexpr const char* kAxes = R"(set logscale xy
set format y '%.0e'
set xlabel 'step'
set border 3 lc rgb '#808080'
set tics nomirror textcolor rgb '#606060'
set grid lc rgb '#a0a0a0' lt 1 lw 0.3 dt 3
set autoscale fix
unset key
)";

// An empty plot whose key is the legend of all panels.
std::string legend_of(const Experiment& experiment, int lines) {
  std::string legend = fmt::format(R"(unset title
unset border
unset tics
unset xlabel
unset grid
unset logscale
set lmargin 0
set rmargin 0
set tmargin 0
set bmargin 0
set key center top Left reverse vertical maxrows {} noenhanced samplen 3
set label {} at screen 0.5, character 1 center noenhanced textcolor rgb '#606060'
plot [0:1][0:1] )",
                                   lines, gnuplot_quoted(draw_text(experiment)));
  for (size_t i = 0; i < experiment.settings.size(); ++i) {
    const Style style = style_of(i);
    legend +=
        fmt::format("{}NaN with lines lc rgb '{}' dt {} lw 2 title {}", i == 0 ? "" : ", \\\n  ", style.color,
                    style.dashes, gnuplot_quoted(experiment.settings[i].front().setting.name));
  }
  return legend + "\n";
}

}  // namespace

Style style_of(size_t index) {
  constexpr size_t kColors = 8;
  return {run_color(index), static_cast<int>(index / kColors) % 3 + 1};
}

std::string picture_program(const Experiment& experiment, const fs::path& png) {
  constexpr int kColumns = 2, kLegendColumns = 3;
  const int count = static_cast<int>(experiment.quantities.size()), rows = (count + kColumns - 1) / kColumns;
  const int lines = (static_cast<int>(experiment.settings.size()) + kLegendColumns - 1) / kLegendColumns;
  const int legend = (lines + 1) * kLegendLine, height = rows * kPanelHeight + legend;
  std::string data, plots;
  for (int q = 0; q < count; ++q) {
    const Curves curves = curves_of(experiment, static_cast<size_t>(q));
    data += curves.data;
    plots +=
        fmt::format("set origin {:.5f},{:.5f}\nset size {:.5f},{:.5f}\n", (q % kColumns) / double{kColumns},
                    1.0 - (q / kColumns + 1) * double{kPanelHeight} / height, 1.0 / kColumns,
                    double{kPanelHeight} / height);
    plots += plot_of(experiment, static_cast<size_t>(q), curves);
  }
  return gnuplot_png_terminal(kColumns * kPanelWidth, height) +
         fmt::format(
             "set output {}\n{}set multiplot\n{}{}set origin 0,0\nset size 1,{:.5f}\n{}unset multiplot\n",
             gnuplot_quoted(png.string()), data, kAxes, plots, double(legend) / height,
             legend_of(experiment, lines));
}

std::string panel_program(const Experiment& experiment, size_t quantity, const fs::path& svg) {
  const Curves curves = curves_of(experiment, quantity);
  return fmt::format(
      "set terminal svg noenhanced size {},{} dynamic background rgb 'white' font 'sans,12' name 'panel{}'\n"
      "set output {}\n{}{}{}",
      kPanelWidth, kPanelHeight, quantity, gnuplot_quoted(svg.string()), curves.data, kAxes,
      plot_of(experiment, quantity, curves));
}

void draw_picture(const Experiment& experiment, const fs::path& png) {
  draw_with_gnuplot(png, [&](const fs::path& output) { return picture_program(experiment, output); });
}

}  // namespace polar::lab
