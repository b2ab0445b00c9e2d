#include "sweep/grid.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <set>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "config/tree.h"

namespace polar::sweep {
namespace {

constexpr size_t kLongestName = 120;  // of a directory: far below what file systems take

// The last `count` segments of a dotted key.
std::string ending(const std::string& key, size_t count) {
  const std::vector<std::string> segments = split(key, '.');
  const size_t first = segments.size() - std::min(count, segments.size());
  return fmt::format("{}", fmt::join(segments.begin() + static_cast<long>(first), segments.end(), "."));
}

// The name of a grid whose keys are shown by their last `count` segments: one if that is all the same.
std::string grid_name(const Grid& grid, size_t count) {
  std::vector<std::string> parts;
  for (const std::string& key : grid.keys)
    if (const std::string part = ending(key, count);
        std::find(parts.begin(), parts.end(), part) == parts.end())
      parts.push_back(part);
  return fmt::format("{}", fmt::join(parts, "+"));
}

// What a path and most shells take as it is stays; the rest is written as %XX, so that no two texts become
// one.
std::string in_file_name(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       std::string_view("=,.+-_[]").find(c) != std::string_view::npos;
    if (plain)
      result += c;
    else
      result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  if (result.size() <= kLongestName) return result;
  return result.substr(0, kLongestName) + "~" + checksum(std::as_bytes(std::span(text))).substr(0, 8);
}

Point make_point(const std::vector<Grid>& grids, std::vector<size_t> choice) {
  Point point{.name = "", .choice = std::move(choice), .overrides = {}};
  for (size_t g = 0; g < grids.size(); ++g) {
    const std::string& value = grids[g].values[point.choice[g]];
    point.name += (g == 0 ? "" : ",") + grids[g].name + "=" + value;
    for (const std::string& key : grids[g].keys) point.overrides.push_back(key + "=" + value);
  }
  point.name = grids.empty() ? "base" : in_file_name(point.name);
  return point;
}

// Spaces around a value belong to the list, not to it.
std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(' ');
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(' ') - first + 1);
}

}  // namespace

std::vector<std::string> split_values(std::string_view text) {
  std::vector<std::string> values(1);
  std::string closing;  // what the open brackets wait for, and a quote
  for (const char c : text) {
    const bool quoted = !closing.empty() && (closing.back() == '"' || closing.back() == '\'');
    if (c == ',' && closing.empty()) {
      values.emplace_back();
      continue;
    }
    values.back() += c;
    if (!closing.empty() && c == closing.back())
      closing.pop_back();
    else if (quoted)
      continue;
    else if (c == '[' || c == '{')
      closing += c == '[' ? ']' : '}';
    else if (c == '"' || c == '\'')
      closing += c;
  }
  if (!closing.empty()) fail_usage("in '{}' a '{}' is missing", text, closing.back());
  for (std::string& value : values) {
    value = trimmed(value);
    if (value.empty()) fail_usage("in '{}' a value is empty; expected values separated by commas", text);
  }
  return values;
}

Grid parse_grid(const std::string& text) {
  static constexpr std::array<std::string_view, 4> kOwnKeys{"run.dir", "run.name", "run.seed", "run.threads"};
  const size_t equals = text.find('=');
  if (equals == std::string::npos)
    fail_usage(
        "--grid {}: found no '=', expected key=value,value,... such as optimizer.groups.0.lr=1e-3,3e-3",
        text);
  Grid grid{.keys = split(std::string_view(text).substr(0, equals), '+'), .values = {}, .name = ""};
  for (const std::string& key : grid.keys) {
    if (key.empty()) fail_usage("--grid {}: found an empty key before '='", text);
    if (std::find(kOwnKeys.begin(), kOwnKeys.end(), key) != kOwnKeys.end())
      fail_usage("--grid {}: the sweep itself sets {} for every run (--seeds, --threads, --output)", text,
                 key);
  }
  try {
    grid.values = split_values(std::string_view(text).substr(equals + 1));
  } catch (const Error& e) {
    fail_usage("--grid {}: {}", text, e.what());
  }
  std::set<std::string> seen;
  for (const std::string& value : grid.values)
    if (!seen.insert(value).second) fail_usage("--grid {}: the value {} stands there twice", text, value);
  return grid;
}

std::vector<Grid> parse_grids(const std::vector<std::string>& texts) {
  std::vector<Grid> grids;
  std::set<std::string> keys;
  for (const std::string& text : texts) {
    grids.push_back(parse_grid(text));
    for (const std::string& key : grids.back().keys)
      if (!keys.insert(key).second) fail_usage("--grid {}: the key {} stands in a grid already", text, key);
  }
  for (Grid& grid : grids) {
    for (size_t count = 1; count < 32; ++count) {
      grid.name = grid_name(grid, count);
      const bool shared = std::any_of(grids.begin(), grids.end(), [&](const Grid& other) {
        return &other != &grid && grid_name(other, count) == grid.name;
      });
      if (!shared) break;
    }
  }
  return grids;
}

std::optional<std::vector<double>> as_numbers(const std::vector<std::string>& values) {
  std::vector<double> numbers;
  for (const std::string& value : values) {
    char* end = nullptr;
    const double number = std::strtod(value.c_str(), &end);
    if (end == value.c_str() || *end != '\0' || !std::isfinite(number)) return std::nullopt;
    numbers.push_back(number);
  }
  return numbers;
}

std::vector<Point> product(const std::vector<Grid>& grids) {
  std::vector<Point> points;
  std::vector<size_t> choice(grids.size(), 0);
  while (true) {
    points.push_back(make_point(grids, choice));
    size_t g = grids.size();
    while (g > 0 && ++choice[g - 1] == grids[g - 1].values.size()) choice[--g] = 0;
    if (g == 0) return points;
  }
}

}  // namespace polar::sweep
