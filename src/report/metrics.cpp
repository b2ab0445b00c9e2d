#include "report/metrics.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"

namespace polar {
namespace {

using Json = nlohmann::ordered_json;  // keeps the order of the keys

// The first key of those that depend on the machine and the clock.
constexpr std::string_view kFirstVolatileKey = ",\"memory_bytes\":";

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

Json number(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

// The inverse of number(); nothing if `value` is neither a number nor one of the three strings.
std::optional<double> to_double(const Json& value) {
  if (value.is_number()) return value.get<double>();
  if (value == "nan") return kNaN;
  if (value == "inf") return std::numeric_limits<double>::infinity();
  if (value == "-inf") return -std::numeric_limits<double>::infinity();
  return std::nullopt;
}

void add_optional(Json& line, const char* key, const std::optional<double>& value) {
  if (value) line[key] = number(*value);
}

// A line of the file with its number (from 1), without the line break.
struct Line {
  std::string_view text;
  int64_t number;
};

// The lines of `content`. A last line without line break that is not a whole JSON value is torn: left out.
std::vector<Line> whole_lines(std::string_view content) {
  std::vector<Line> lines;
  while (!content.empty()) {
    const size_t end = content.find('\n');
    const std::string_view text = content.substr(0, end);
    const bool torn = end == std::string_view::npos && !Json::accept(text);
    if (!torn) lines.push_back({text, static_cast<int64_t>(lines.size()) + 1});
    content.remove_prefix(end == std::string_view::npos ? content.size() : end + 1);
  }
  return lines;
}

// The beginning of a text of any bytes, in quotes and in ASCII.
std::string printable(std::string_view text) {
  return Json(text.substr(0, 60)).dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
}

Json parse_line(const std::filesystem::path& path, const Line& line) {
  const Json json = Json::parse(line.text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object())
    fail("{}:{}: expected a JSON object (one logged step), found {}", path.string(), line.number,
         printable(line.text));
  for (const char* key : {"step", "tokens"})
    if (!json.contains(key) || !json[key].is_number_integer() || json[key].get<int64_t>() < 0)
      fail("{}:{}: expected a key \"{}\" with an integer that is not negative, found {}", path.string(),
           line.number, key, json.contains(key) ? json[key].dump() : "none");
  return json;
}

// Puts the value into row `row` of a column, which is made, and filled up with NaN, where needed.
void set_value(MetricsTable& table, const std::string& name, size_t row, double value) {
  std::vector<double>& column = table.columns[name];
  column.resize(row, kNaN);
  column.push_back(value);
}

void add_row(MetricsTable& table, const Json& json, const std::filesystem::path& path, int64_t line) {
  const size_t row = table.size();
  const auto add = [&](const std::string& name, const Json& value) {
    const std::optional<double> found = to_double(value);
    if (!found)
      fail("{}:{}: \"{}\": expected a number or \"nan\", \"inf\", \"-inf\", found {}", path.string(), line,
           name, value.dump().substr(0, 60));
    set_value(table, name, row, *found);
  };
  for (const auto& [key, value] : json.items()) {
    if (key == "step" || key == "tokens") continue;
    if (value.is_object()) {
      for (const auto& [inner, inner_value] : value.items()) add(key + "/" + inner, inner_value);
    } else {
      add(key, value);
    }
  }
  table.step.push_back(json["step"].get<int64_t>());
  table.tokens.push_back(json["tokens"].get<int64_t>());
}

}  // namespace

std::string metrics_line(const StepMetrics& metrics) {
  Json line;
  line["step"] = metrics.step;
  line["tokens"] = metrics.tokens;
  add_optional(line, "loss", metrics.loss);
  for (const auto& [group, rate] : metrics.lr) line["lr"][group] = number(rate);
  add_optional(line, "grad_norm", metrics.grad_norm);
  line["skipped"] = metrics.skipped;
  add_optional(line, "val_loss", metrics.val_loss);
  add_optional(line, "val_perplexity", metrics.val_perplexity);
  add_optional(line, "val_bits_per_byte", metrics.val_bits_per_byte);
  for (const auto& [quantity, values] : metrics.diagnostics)
    for (const auto& [name, value] : values) line[quantity][name] = number(value);
  line["memory_bytes"] = metrics.memory_bytes;
  line["tokens_per_s"] = number(metrics.tokens_per_s);
  add_optional(line, "mfu", metrics.mfu);
  line["data_wait_share"] = number(metrics.data_wait_share);
  if (metrics.slowest_rank) line["slowest_rank"] = *metrics.slowest_rank;
  add_optional(line, "slowest_rank_share", metrics.slowest_rank_share);
  add_optional(line, "wait_share", metrics.wait_share);
  line["time"] = number(metrics.time);
  return line.dump();
}

std::vector<std::string> unique_names(std::vector<std::string> names) {
  std::set<std::string> taken;
  for (std::string& name : names) {
    const std::string base = name;
    for (int count = 2; !taken.insert(name).second; ++count) name = fmt::format("{}.{}", base, count);
  }
  return names;
}

std::string deterministic_part(std::string_view line) {
  const size_t end = line.find(kFirstVolatileKey);
  if (end == std::string_view::npos) return std::string(line);
  return std::string(line.substr(0, end)) + "}";
}

MetricsWriter::MetricsWriter(const std::filesystem::path& path) : path_(path) {
  write_file_atomically(path_, "");
  open();
}

MetricsWriter::MetricsWriter(const std::filesystem::path& path, int64_t resume_step) : path_(path) {
  std::string kept;
  if (std::filesystem::exists(path_)) {
    const std::string content = read_file(path_);
    for (const Line& line : whole_lines(content)) {
      if (parse_line(path_, line)["step"].get<int64_t>() > resume_step) continue;
      kept.append(line.text).push_back('\n');
    }
  }
  write_file_atomically(path_, kept);
  open();
}

void MetricsWriter::open() {
  file_.open(path_, std::ios::binary | std::ios::app);
  if (!file_) fail("cannot open {} for appending: {}", path_.string(), std::strerror(errno));
}

void MetricsWriter::write(const StepMetrics& metrics) {
  file_ << metrics_line(metrics) << '\n' << std::flush;
  if (!file_) fail("cannot write to {}: {}", path_.string(), std::strerror(errno));
}

std::vector<double> MetricsTable::column(const std::string& name) const {
  const auto found = columns.find(name);
  return found == columns.end() ? std::vector<double>(size(), kNaN) : found->second;
}

MetricsTable read_metrics(const std::filesystem::path& path) {
  const std::string content = read_file(path);
  MetricsTable table;
  for (const Line& line : whole_lines(content)) add_row(table, parse_line(path, line), path, line.number);
  for (auto& [name, column] : table.columns) column.resize(table.size(), kNaN);
  return table;
}

}  // namespace polar
