#include "config/reader.h"

#include <algorithm>

#include "config/fields.h"
#include "config/section_reader.h"

namespace polar {
namespace {

// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> d(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

void fail_unknown_key(const ConfigEntry& entry, const std::string& path, std::string_view root,
                      const std::vector<std::string>& valid, const std::vector<std::string>& everywhere) {
  const std::string section = path.empty() ? std::string(root) : "'" + path + "'";
  std::string hint;
  if (const std::string near = nearest(entry.key, valid); !near.empty()) {
    hint = "did you mean '" + near + "'? ";
  } else {
    for (const std::string& other : everywhere)
      if (other.ends_with("." + entry.key)) hint = "did you mean '" + other + "'? ";
  }
  fail_usage("{}: found the unknown key '{}' in {}; {}expected one of: {}", entry.origin, entry.key, section,
             hint, fmt::join(valid, ", "));
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  constexpr size_t kLongestWord = 64;  // anything longer is no misspelt key
  if (word.size() > kLongestWord) return {};
  std::string best;
  size_t best_distance = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

GroupConfig group_defaults(const std::string& type) {
  GroupConfig group;
  group.name = type;
  group.type = type == "adamw"     ? GroupType::adamw
               : type == "shampoo" ? GroupType::shampoo
               : type == "soap"    ? GroupType::soap
                                   : GroupType::matrix;
  if (group.type == GroupType::shampoo) group.eps = 1.0e-6;
  if (group.type == GroupType::soap) group.betas = {0.95, 0.95};
  if (type == "muon") {
    group.momentum = {.kind = MomentumKind::first, .beta = 0.95, .nesterov = true};
    group.oracle = {.kind = OracleKind::newton_schulz, .steps = 5, .coefficients = "jordan", .custom = {}};
    group.scale = {.kind = ScaleKind::jordan};
  } else if (type == "sgd") {
    group.momentum = {.kind = MomentumKind::heavy_ball, .beta = 0.9};
    group.oracle.kind = OracleKind::identity;
    group.scale = {.kind = ScaleKind::none};
  } else if (type == "signsgd") {
    group.momentum.kind = MomentumKind::none;
    group.oracle.kind = OracleKind::sign;
  } else if (type == "lion") {
    group.momentum = {.kind = MomentumKind::lion, .beta = 0.99};
    group.oracle.kind = OracleKind::sign;
    group.scale = {.kind = ScaleKind::none};
  }
  return group;
}

std::vector<std::string> all_key_paths() {
  return key_paths<Experiment>();
}

Experiment read_experiment(const ConfigNode& root) {
  Experiment experiment;
  SectionReader<Experiment>::read_section(root, "", experiment);
  return experiment;
}

}  // namespace polar
