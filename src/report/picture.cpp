#include "report/picture.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "base/file.h"

extern char** environ;

namespace polar {
namespace {

namespace fs = std::filesystem;

struct Close {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using TemporaryFile = std::unique_ptr<std::FILE, Close>;  // has no name, vanishes when closed

TemporaryFile make_temporary() {
  TemporaryFile file(std::tmpfile());
  if (!file) fail("cannot make a temporary file: {}", std::strerror(errno));
  return file;
}

std::string content_of(std::FILE* file) {
  std::string content;
  std::array<char, 4096> part{};
  std::rewind(file);
  for (size_t n = 0; (n = std::fread(part.data(), 1, part.size(), file)) > 0;) content.append(part.data(), n);
  return content;
}

// A string in gnuplot's single quotes, where only the quote itself is special; a line break would end it.
std::string quoted(std::string text) {
  std::string result = "'";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) continue;
    result += c;
    if (c == '\'') result += c;
  }
  return result + "'";
}

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
  const std::string color = run_color(i), title = quoted(run.name),
                    val_title = quoted(run.name + ", validation");
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

// Starts gnuplot with the program as its input, no shell between; returns its exit status.
int run_gnuplot(std::FILE* program, std::FILE* messages) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(program), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(messages), STDERR_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  std::string name = "gnuplot";
  std::array<char*, 2> arguments{name.data(), nullptr};
  pid_t child = 0;
  const int error = posix_spawnp(&child, name.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) fail("gnuplot is not installed (Debian: apt-get install gnuplot-nox)");
  if (error != 0) fail("cannot start gnuplot: {}", std::strerror(error));
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) fail("cannot wait for gnuplot: {}", std::strerror(errno));
  return status;
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
  return fmt::format(R"(if (strstrt(GPVAL_TERMINALS, 'pngcairo') > 0) {{
  set terminal pngcairo noenhanced size 1200,700 background rgb 'white' font 'sans,12'
}} else {{
  set terminal png noenhanced size 1200,700 background rgb 'white'
}}
set output {}
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
                     quoted(png.string()), data, plot);
}

void draw_loss_curves(std::span<const RunData> runs, const fs::path& png) {
  fs::path unfinished = png;
  unfinished += ".tmp";
  const std::string program = gnuplot_program(runs, unfinished);
  const TemporaryFile input = make_temporary(), messages = make_temporary();
  if (std::fwrite(program.data(), 1, program.size(), input.get()) != program.size() ||
      std::fflush(input.get()))
    fail("cannot write a temporary file: {}", std::strerror(errno));
  std::rewind(input.get());
  const int status = run_gnuplot(input.get(), messages.get());
  std::error_code error;
  if (status != 0 || fs::file_size(unfinished, error) == 0 || error) {
    fs::remove(unfinished, error);
    fail("gnuplot could not draw {}: {}", png.string(), content_of(messages.get()));
  }
  rename_durably(unfinished, png);
}

}  // namespace polar
