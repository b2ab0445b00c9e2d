#include "config/reader.h"

#include <algorithm>

#include "base/error.h"
#include "config/describe.h"
#include "config/fields.h"
#include "config/scalars.h"

namespace polar {
namespace {

// The names of one section's keys, whether they apply or not.
struct KeyNames {
  std::vector<std::string> names;
  template <class T>
  void operator()(const Key& key, T&&) {
    names.emplace_back(key.name);
  }
};

// The dotted names below one section.
struct KeyPaths {
  std::string prefix;
  std::vector<std::string>& paths;

  template <class T>
  void operator()(const Key& key, T& value) {
    descend(prefix + std::string(key.name), value);
  }
  template <class Name, class List>
  void operator()(const Key& key, Coefficients<Name, List>&&) {
    paths.push_back(prefix + std::string(key.name));
  }

 private:
  template <class T>
  void descend(const std::string& path, T&) {
    if constexpr (std::is_aggregate_v<T> && !requires(T t) { t.size(); }) {
      T section{};
      KeyPaths inner{path + ".", paths};
      fields(inner, section);
    } else {
      paths.push_back(path);
    }
  }
  template <class T>
  void descend(const std::string& path, std::vector<T>&) {
    if constexpr (std::is_aggregate_v<T>) {
      T element{};
      descend(path + ".N", element);
    } else {
      paths.push_back(path);
    }
  }
  template <class T>
  void descend(const std::string& path, std::optional<T>&) {
    T section{};
    descend(path, section);
  }
};

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

[[noreturn]] void fail_unknown_key(const ConfigEntry& entry, const std::string& path,
                                   const std::vector<std::string>& valid) {
  const std::string section = path.empty() ? "a configuration" : "'" + path + "'";
  std::string hint;
  if (const std::string near = nearest(entry.key, valid); !near.empty()) {
    hint = "did you mean '" + near + "'? ";
  } else {
    for (const std::string& other : all_key_paths())
      if (other.ends_with("." + entry.key)) hint = "did you mean '" + other + "'? ";
  }
  fail_usage("{}: found the unknown key '{}' in {}; {}expected one of: {}", entry.origin, entry.key, section,
             hint, join(valid));
}

// Reads one section: visited with every key of the table.
class SectionReader {
 public:
  template <class T>
  static void read_section(const ConfigNode& node, const std::string& path, T& section) {
    KeyNames keys;
    T probe{};
    fields(keys, probe);
    for (const ConfigEntry& entry : node.entries)
      if (std::find(keys.names.begin(), keys.names.end(), entry.key) == keys.names.end())
        fail_unknown_key(entry, path, keys.names);
    SectionReader reader(node, path);
    fields(reader, section);
  }

  template <class T>
  void operator()(const Key& key, T&& value) {
    const std::string path = path_.empty() ? std::string(key.name) : path_ + "." + std::string(key.name);
    const ConfigNode* node = section_.find(key.name);
    if (!node || node->taken_back) {
      if (key.required)
        fail_usage("{}: the required key '{}' is missing; expected {} ({})", section_.origin, path,
                   describe(key, value), key.doc);
      return;
    }
    if (!key.applies)
      fail_usage(
          "{}: '{}' has no effect here: it needs {}; remove it (an override '{}=' does) or change that",
          node->origin, path, key.applies_to, path);
    read(key, *node, path, value);
  }

 private:
  SectionReader(const ConfigNode& section, std::string path) : section_(section), path_(std::move(path)) {}

  template <class T>
  requires std::is_arithmetic_v<T> || std::same_as<T, std::string>
  static void read(const Key& key, const ConfigNode& node, const std::string& path, T& value) {
    read_scalar(key, node, path, value);
  }

  template <class E>
  requires std::is_enum_v<E>
  static void read(const Key&, const ConfigNode& node, const std::string& path, E& value) {
    value = static_cast<E>(read_choice(node, path, enum_choices<E>()));
  }

  template <size_t N>
  static void read(const Key& key, const ConfigNode& node, const std::string& path,
                   std::array<double, N>& value) {
    if (node.kind != ConfigNode::Kind::sequence || node.items.size() != N)
      fail_value(node, path, describe(key, value));
    for (size_t i = 0; i < N; ++i) read_scalar(key, node.items[i], fmt::format("{}.{}", path, i), value[i]);
  }

  template <class T>
  static void read(const Key& key, const ConfigNode& node, const std::string& path, std::vector<T>& value) {
    if (node.kind != ConfigNode::Kind::sequence) fail_value(node, path, describe(key, value));
    value.clear();
    for (size_t i = 0; i < node.items.size(); ++i)
      read(key, node.items[i], fmt::format("{}.{}", path, i), value.emplace_back());
    if (value.empty() && key.required) fail_value(node, path, "at least one entry");
  }

  template <class Name, class List>
  static void read(const Key& key, const ConfigNode& node, const std::string& path,
                   Coefficients<Name, List>& value) {
    if (node.kind == ConfigNode::Kind::sequence && !node.items.empty()) {
      read(key, node, path, value.list);
      value.name = kOwnCoefficients;
      return;
    }
    if (node.kind != ConfigNode::Kind::scalar) fail_value(node, path, describe(key, value));
    read_scalar(key, node, path, value.name);
    value.list.clear();
  }

  template <class T>
  static void read(const Key& key, const ConfigNode& node, const std::string& path, std::optional<T>& value) {
    read(key, node, path, value.emplace());
  }

  static void read(const Key& key, const ConfigNode& node, const std::string& path, GroupConfig& group) {
    if (const ConfigNode* type = node.find("type")) {
      read_choice(*type, path + ".type", "adamw | muon | polargrad | matrix");
      group = group_defaults(type->text);
    }
    read_map(key, node, path, group);
  }

  template <class T>
  requires std::is_aggregate_v<T>
  static void read(const Key& key, const ConfigNode& node, const std::string& path, T& section) {
    read_map(key, node, path, section);
  }

  template <class T>
  static void read_map(const Key& key, const ConfigNode& node, const std::string& path, T& section) {
    if (node.kind != ConfigNode::Kind::map) fail_value(node, path, describe(key, section));
    read_section(node, path, section);
  }

  const ConfigNode& section_;
  std::string path_;
};

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
  group.type = type == "adamw" ? GroupType::adamw : GroupType::matrix;
  if (type == "muon") {
    group.momentum = {.kind = MomentumKind::first, .beta = 0.95, .nesterov = true};
    group.oracle = {.kind = OracleKind::newton_schulz, .steps = 5, .coefficients = "jordan", .custom = {}};
    group.scale = {.kind = ScaleKind::jordan};
  }
  return group;
}

std::vector<std::string> all_key_paths() {
  std::vector<std::string> paths;
  Experiment experiment;
  KeyPaths lister{"", paths};
  fields(lister, experiment);
  return paths;
}

Experiment read_experiment(const ConfigNode& root) {
  Experiment experiment;
  SectionReader::read_section(root, "", experiment);
  return experiment;
}

}  // namespace polar
