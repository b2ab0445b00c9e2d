#include "report/picture.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "report/gnuplot.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

std::string data_block(const std::string& name, const MetricsTable& metrics,
                       const std::vector<double>& values) {
  std::string block = fmt::format("${} << EOD\n", name);
  for (size_t i = 0; i < values.size(); ++i)
    if (std::isfinite(values[i])) block += fmt::format("{} {}\n", metrics.step[i], values[i]);
  return block + "EOD\n";
}

bool has_points(const std::vector<double>& values) {
  return std::any_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); });
}

// The data blocks of run `i`, and what to plot of them.
void add_run(const RunData& run, size_t i, std::string& data, std::vector<std::string>& curves) {
  const std::vector<double> loss = run.metrics.column("loss"), val = run.metrics.column("val_loss");
  const std::string color = run_color(i), title = gnuplot_quoted(run.name),
                    val_title = gnuplot_quoted(run.name + ", validation");
  if (has_points(loss)) {
    data += data_block(fmt::format("raw{}", i), run.metrics, loss);
    data += data_block(fmt::format("smooth{}", i), run.metrics, smooth(loss, kSmoothing));
    curves.push_back(
        fmt::format("$raw{} using 1:2 with lines lc rgb '#A0{}' lw 1 notitle", i, color.substr(1)));
    // A run with one logged step has a point, but no line.
    curves.push_back(fmt::format("$smooth{} using 1:2 with {} lc rgb '{}' lw 2 pt 7 title {}", i,
                                 run.metrics.size() > 1 ? "lines" : "points", color, title));
  }
  if (has_points(val)) {
    data += data_block(fmt::format("val{}", i), run.metrics, val);
    curves.push_back(
        fmt::format("$val{} using 1:2 with linespoints lc rgb '{}' lw 1.5 dt 2 pt 7 ps 0.8 title {}", i,
                    color, val_title));
  }
}

}  // namespace

std::string run_color(size_t index) {
  static constexpr std::array<const char*, 8> kColors{"#2f7ed8", "#e4572e", "#2ca58d", "#9b5de5",
                                                      "#d99a00", "#d6408b", "#6b8e23", "#7f8496"};
  return kColors[index % kColors.size()];
}

std::string gnuplot_program(std::span<const RunData> runs, const fs::path& png) {
  std::string data;
  std::vector<std::string> curves;
  for (size_t i = 0; i < runs.size(); ++i) add_run(runs[i], i, data, curves);
  if (curves.empty()) fail("no run has a finite training or validation loss");
  std::string plot = "plot ";
  for (const std::string& curve : curves) plot += (&curve == &curves.front() ? "" : ", \\\n  ") + curve;
  return gnuplot_png_terminal(1200, 700) + fmt::format(R"(set output {}
set xlabel 'step'
set ylabel 'loss (nats per token)'
set border 3 lc rgb '#808080'
set tics nomirror textcolor rgb '#404040'
set grid lc rgb '#e0e0e0' lt 1 dt 1
set key top right noenhanced
set autoscale fix
set offsets graph 0.01, graph 0.01, graph 0.03, graph 0.03
{}{}
)",
                                                       gnuplot_quoted(png.string()), data, plot);
}

void draw_loss_curves(std::span<const RunData> runs, const fs::path& png) {
  draw_with_gnuplot(png, [&](const fs::path& output) { return gnuplot_program(runs, output); });
}

}  // namespace polar
