// The page of an experiment.
#include <fmt/format.h>
#include <unistd.h>

#include <array>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "lab/figures.h"
#include "report/gnuplot.h"
#include "report/page.h"

namespace polar::lab {
namespace {

namespace fs = std::filesystem;

// A folder that vanishes with its owner.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "polartrain-lab-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr)
      fail("cannot make a folder in {}", fs::temp_directory_path().string());
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// gnuplot's file without what stands before the element.
std::string svg_of(const Experiment& experiment, size_t quantity, const fs::path& folder) {
  const fs::path file = folder / "panel.svg";
  draw_with_gnuplot(file,
                    [&](const fs::path& output) { return panel_program(experiment, quantity, output); });
  const std::string text = read_file(file);
  const size_t begin = text.find("<svg");
  if (begin == std::string::npos) fail("gnuplot drew no SVG");
  return text.substr(begin);
}

std::string panels_of(const Experiment& experiment) {
  std::string html = "<section class=\"charts\">\n";
  try {
    const TemporaryFolder folder;
    for (size_t q = 0; q < experiment.quantities.size(); ++q)
      html += fmt::format("<div class=\"panel\">{}</div>\n", svg_of(experiment, q, folder.path()));
  } catch (const Error& e) {
    log::warning("no figures on the page: {}", e.what());
    return fmt::format("<p class=\"note\">No figures: {}</p>\n", escape_html(e.what()));
  }
  return html + "</section>\n";
}

// As gnuplot draws the dash types 1, 2 and 3.
std::string legend_line(size_t index) {
  static constexpr std::array<const char*, 3> kDashes{"none", "7 4", "2 3"};
  const Style style = style_of(index);
  return fmt::format(R"(<svg width="34" height="8"><line x1="1" y1="4" x2="33" y2="4" stroke="{}" )"
                     R"(stroke-width="2.5" stroke-dasharray="{}"/></svg>)",
                     style.color, kDashes[static_cast<size_t>(style.dashes - 1)]);
}

std::string settings_table(const Experiment& experiment) {
  std::string html =
      R"(<div class="scroll"><table class="keys"><thead><tr><th></th><th>Setting</th><th>Rule</th>)"
      "<th>lr</th><th>Decay</th></tr></thead><tbody>\n";
  for (size_t i = 0; i < experiment.settings.size(); ++i) {
    const Setting& setting = experiment.settings[i].front().setting;
    const std::string decay =
        setting.decay == 1.0 ? "–" : fmt::format("x{:g} every {} steps", setting.decay, setting.decay_every);
    html +=
        fmt::format("<tr><td>{}</td><td>{}</td><td>{}</td><td>{:g}</td><td>{}</td></tr>\n", legend_line(i),
                    escape_html(setting.name), escape_html(rule_of(setting)), setting.group.lr, decay);
  }
  return html + "</tbody></table></div>\n";
}

std::string html_of(const Table& table) {
  std::string html = R"(<div class="scroll"><table class="numbers"><thead><tr>)";
  for (const std::string& cell : table.head) html += fmt::format("<th>{}</th>", escape_html(cell));
  html += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : table.rows) {
    html += fmt::format("<tr><th>{}</th>", escape_html(row.front()));
    for (size_t i = 1; i < row.size(); ++i) html += fmt::format("<td>{}</td>", escape_html(row[i]));
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string draws_of(const Experiment& experiment) {
  std::string html = "<ul>\n";
  for (const Experiment::Draw& draw : experiment.draws)
    html += fmt::format("<li>seed {}: f* = {:.10g}, by {}</li>\n", draw.seed, draw.minimum,
                        escape_html(draw.minimum_by));
  return html + "</ul>\n";
}

std::string sizes_of(const Experiment& experiment) {
  std::string text;
  for (const auto& [name, value] : experiment.sizes)
    text += fmt::format("{}{} {:g}", text.empty() ? "" : ", ", name, value);
  return text;
}

}  // namespace

std::string render_page(const Experiment& experiment) {
  constexpr const char* kStyle =
      ".panel { background: #fff; border: 1px solid var(--line); border-radius: 10px;"
      " padding: 8px; } .panel svg { display: block; width: 100%; height: auto; }";
  return fmt::format(
      R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{problem} · PolarTrain lab</title>
<style>{style}{own_style}</style>
</head>
<body>
<header><p class="product">PolarTrain · lab</p><h1>{title}</h1></header>
<main>
<p class="note">Lines: the median over the seeds; bands: from the least to the most. {sizes}, {draw}; {device}; PolarTrain {version}.</p>
{panels}<h2>Settings</h2>
{settings}<h2>Gap</h2>
{table}<h2>Draws</h2>
{draws}</main>
</body>
</html>
)",
      fmt::arg("problem", escape_html(experiment.problem)), fmt::arg("style", kPageStyle),
      fmt::arg("own_style", kStyle), fmt::arg("title", escape_html(experiment.title)),
      fmt::arg("sizes", escape_html(sizes_of(experiment))),
      fmt::arg("draw", escape_html(draw_text(experiment))),
      fmt::arg("device", escape_html(experiment.device)),
      fmt::arg("version", escape_html(experiment.version)), fmt::arg("panels", panels_of(experiment)),
      fmt::arg("settings", settings_table(experiment)), fmt::arg("table", html_of(gap_table(experiment))),
      fmt::arg("draws", draws_of(experiment)));
}

}  // namespace polar::lab
