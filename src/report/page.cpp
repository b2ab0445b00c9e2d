#include "report/page.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "report/picture.h"
#include "report/progress.h"

namespace polar {
namespace {

using Json = nlohmann::ordered_json;

// Bytes that are not UTF-8 become U+FFFD: done by the JSON library, which must know UTF-8 anyway.
std::string valid_utf8(std::string_view text) {
  const std::string quoted = Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
  return Json::parse(quoted).get<std::string>();
}

// Seven digits are more than a screen shows; null where there is no number.
Json json_values(const std::vector<double>& values) {
  Json list = Json::array();
  for (const double value : values)
    list.push_back(std::isfinite(value) ? Json(std::stod(fmt::format("{:.7g}", value))) : Json(nullptr));
  return list;
}

std::string optional_text(const std::optional<double>& value, const char* format) {
  if (!value) return "–";
  return std::isfinite(*value) ? fmt::format(fmt::runtime(format), *value) : fmt::format("{}", *value);
}

std::string run_label(const RunData& run, size_t index) {
  return fmt::format(R"(<span class="run" style="--run:{}">{}</span>)", run_color(index),
                     escape_html(run.name));
}

// One row of the table of final numbers: how a run's cell reads, and, where less is better, by what value.
struct SummaryRow {
  const char* label;
  std::function<std::string(const RunSummary&)> text;
  std::function<std::optional<double>(const RunSummary&)> rank;
};

std::vector<SummaryRow> summary_rows() {
  using S = const RunSummary&;
  return {
      {"Steps", [](S s) { return std::to_string(s.steps); }, nullptr},
      {"Tokens", [](S s) { return human_count(static_cast<double>(s.tokens)); }, nullptr},
      {"Training loss, last", [](S s) { return optional_text(s.last_loss, "{:.4f}"); },
       [](S s) { return s.last_loss; }},
      {"Validation loss, last", [](S s) { return optional_text(s.last_val_loss, "{:.4f}"); },
       [](S s) { return s.last_val_loss; }},
      {"Validation loss, best",
       [](S s) {
         const std::string text = optional_text(s.best_val_loss, "{:.4f}");
         return s.best_val_loss ? fmt::format("{} at step {}", text, s.best_val_step) : text;
       },
       [](S s) { return s.best_val_loss; }},
      {"Perplexity", [](S s) { return optional_text(s.val_perplexity, "{:.2f}"); },
       [](S s) { return s.val_perplexity; }},
      {"Bits per byte", [](S s) { return optional_text(s.val_bits_per_byte, "{:.4f}"); },
       [](S s) { return s.val_bits_per_byte; }},
      {"Tokens per second, median",
       [](S s) { return s.median_tokens_per_s ? human_count(*s.median_tokens_per_s) : std::string("–"); },
       nullptr},
      {"MFU, median",
       [](S s) { return s.median_mfu ? fmt::format("{:.1f} %", 100.0 * *s.median_mfu) : std::string("–"); },
       nullptr},
      {"Skipped steps", [](S s) { return std::to_string(s.skipped); }, nullptr},
      {"Time logged", [](S s) { return s.seconds ? human_duration(*s.seconds) : std::string("–"); }, nullptr},
  };
}

// The index of the run with the lowest finite value; nothing for a single run or a row without a ranking.
std::optional<size_t> best_run(const SummaryRow& row, std::span<const RunSummary> summaries) {
  if (!row.rank || summaries.size() < 2) return std::nullopt;
  std::optional<size_t> best;
  double lowest = 0.0;
  for (size_t i = 0; i < summaries.size(); ++i) {
    const std::optional<double> value = row.rank(summaries[i]);
    if (!value || !std::isfinite(*value) || (best && *value >= lowest)) continue;
    best = i;
    lowest = *value;
  }
  return best;
}

std::string table_head(const char* first, std::span<const RunData> runs) {
  std::string head = fmt::format("<thead><tr><th>{}</th>", first);
  for (size_t i = 0; i < runs.size(); ++i) head += fmt::format("<th>{}</th>", run_label(runs[i], i));
  return head + "</tr></thead>\n";
}

std::string summary_table(std::span<const RunData> runs) {
  std::vector<RunSummary> summaries;
  for (const RunData& run : runs) summaries.push_back(summarize(run.metrics));
  std::string html = R"(<div class="scroll"><table class="numbers">)" + table_head("", runs) + "<tbody>\n";
  for (const SummaryRow& row : summary_rows()) {
    const std::optional<size_t> best = best_run(row, summaries);
    html += fmt::format("<tr><th>{}</th>", row.label);
    for (size_t i = 0; i < runs.size(); ++i)
      html += fmt::format("<td{}>{}</td>", best == i ? R"( class="best")" : "", row.text(summaries[i]));
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string difference_table(std::span<const RunData> runs) {
  const std::vector<ConfigDifference> differences = config_differences(runs);
  if (differences.empty()) return "<p class=\"note\">The configurations agree in every key.</p>\n";
  std::string html = R"(<div class="scroll"><table class="keys">)" + table_head("Key", runs) + "<tbody>\n";
  for (const ConfigDifference& difference : differences) {
    html += fmt::format("<tr><th><code>{}</code></th>", escape_html(difference.key));
    for (const std::optional<std::string>& value : difference.values)
      html +=
          value ? fmt::format("<td><code>{}</code></td>", escape_html(*value)) : std::string("<td>–</td>");
    html += "</tr>\n";
  }
  return html + "</tbody></table></div>\n";
}

std::string section_of(const std::string& key) {
  return key.substr(0, key.find('.'));
}

// One card a section: the keys without their section's name.
std::string config_cards(const FlatConfig& config, const std::function<bool(const std::string&)>& wanted) {
  std::string html, section;
  for (const auto& [key, value] : config) {
    if (!wanted(section_of(key))) continue;
    if (section_of(key) != section) {
      html += section.empty() ? "" : "</dl></div>\n";
      section = section_of(key);
      html += fmt::format("<div class=\"card\"><h3>{}</h3><dl>", escape_html(section));
    }
    const std::string rest = key.size() > section.size() ? key.substr(section.size() + 1) : key;
    html += fmt::format("<dt>{}</dt><dd>{}</dd>", escape_html(rest), escape_html(value));
  }
  return section.empty() ? html : html + "</dl></div>\n";
}

// What decides a run's result stays in sight; the other sections (paths, logging, ...) are folded away.
std::string single_config(const RunData& run) {
  const auto important = [](const std::string& section) {
    static constexpr std::array<std::string_view, 5> kSections{"model", "batch", "optimizer", "schedule",
                                                               "train"};
    return std::find(kSections.begin(), kSections.end(), section) != kSections.end();
  };
  const auto other = [&](const std::string& section) { return !important(section); };
  return fmt::format(
      "<div class=\"cards\">{}</div>\n<details><summary>All other keys</summary>"
      "<div class=\"cards\">{}</div></details>\n",
      config_cards(run.config, important), config_cards(run.config, other));
}

std::string config_section(std::span<const RunData> runs) {
  std::string notes;
  size_t known = 0;
  for (const RunData& run : runs) {
    if (!run.config.empty())
      ++known;
    else
      notes += fmt::format("<p class=\"note\">{} has no config.yaml.</p>\n", escape_html(run.name));
  }
  if (runs.size() == 1) return "<h2>Configuration</h2>\n" + (known == 1 ? single_config(runs[0]) : notes);
  const std::string table = known > 1 ? difference_table(runs) : "";
  return "<h2>Configuration differences</h2>\n" + table + notes;
}

std::string sample_section(std::span<const RunData> runs) {
  std::string html;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs[i].sample.empty()) continue;
    const std::string heading = runs.size() > 1 ? fmt::format("<h3>{}</h3>", run_label(runs[i], i)) : "";
    html += fmt::format("{}<pre class=\"sample\">{}</pre>\n", heading, escape_html(runs[i].sample));
  }
  return html.empty() ? html : "<h2>Generated text</h2>\n" + html;
}

std::string title_of(std::span<const RunData> runs) {
  std::string title;
  for (const RunData& run : runs) title += (title.empty() ? "" : ", ") + run.name;
  return title;
}

}  // namespace

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : valid_utf8(text)) {
    const bool forbidden = (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
    if (c == '&')
      escaped += "&amp;";
    else if (c == '<')
      escaped += "&lt;";
    else if (c == '>')
      escaped += "&gt;";
    else if (c == '"')
      escaped += "&quot;";
    else if (c == '\'')
      escaped += "&#39;";
    else if (forbidden)
      escaped += "\xEF\xBF\xBD";
    else
      escaped += c;
  }
  return escaped;
}

std::string page_data(std::span<const RunData> runs) {
  Json list = Json::array();
  for (size_t i = 0; i < runs.size(); ++i) {
    Json columns = Json::object();
    for (const auto& [name, values] : runs[i].metrics.columns) {
      const bool shown = name == "loss" || name == "val_loss" || name == "grad_norm" ||
                         name == "tokens_per_s" || name == "mfu" || name.find('/') != std::string::npos;
      if (shown) columns[name] = json_values(values);
    }
    list.push_back({{"name", runs[i].name},
                    {"color", run_color(i)},
                    {"step", runs[i].metrics.step},
                    {"tokens", runs[i].metrics.tokens},
                    {"columns", columns}});
  }
  std::string json;
  for (const char c : Json({{"runs", list}}).dump(-1, ' ', false, Json::error_handler_t::replace))
    json += c == '<' ? std::string("\\u003c") : std::string(1, c);
  return json;
}

std::string render_document(const Document& document) {
  const std::span<const RunData> runs = document.runs;
  std::string legend;
  for (size_t i = 0; i < runs.size(); ++i)
    legend +=
        fmt::format(R"(<button type="button" class="chip" data-run="{}" aria-pressed="true">{}</button>)", i,
                    run_label(runs[i], i));
  return fmt::format(
      R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · PolarTrain</title>
<style>{style}{more_style}</style>
</head>
<body>
<header><p class="product">PolarTrain · {kind}</p><h1>{title}</h1></header>
{before}<nav class="controls" id="controls">
<div class="legend">{legend}</div>
<div class="options">
<div class="switch" role="group" aria-label="Horizontal axis">
<button type="button" data-x="step" aria-pressed="true">Steps</button>
<button type="button" data-x="tokens" aria-pressed="false">Tokens</button></div>
<label><input type="checkbox" id="log"> log y</label>
<label>smoothing <input type="range" id="smooth" min="0" max="0.99" step="0.01" value="{smoothing}"></label>
<button type="button" id="reset" hidden>Reset zoom</button>
</div></nav>
<main>
<section id="charts" class="charts"><noscript>The curves need JavaScript; the tables below do not.</noscript></section>
{after}</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
)",
      fmt::arg("title", escape_html(document.title)), fmt::arg("kind", escape_html(document.kind)),
      fmt::arg("style", kPageStyle), fmt::arg("more_style", document.style), fmt::arg("legend", legend),
      fmt::arg("smoothing", kSmoothing), fmt::arg("before", document.before),
      fmt::arg("after", document.after), fmt::arg("data", page_data(runs)), fmt::arg("script", kPageScript));
}

std::string render_page(std::span<const RunData> runs) {
  return render_document({.title = title_of(runs),
                          .kind = "training report",
                          .style = "",
                          .runs = runs,
                          .before = "",
                          .after = "<h2>Final numbers</h2>\n" + summary_table(runs) + config_section(runs) +
                                   sample_section(runs)});
}

}  // namespace polar
