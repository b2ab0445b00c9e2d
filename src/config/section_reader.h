// Reads the sections of a YAML tree into structs by their tables of keys (config/fields.h,
// config/hardware.cpp): exact types, ranges, no unknown key, no missing one. Only for the .cpp files that
// hold or include a table.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "config/describe.h"
#include "config/reader.h"
#include "config/scalars.h"

namespace polar {

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

// Every dotted key below a root, positions in lists as "N".
template <class Root>
std::vector<std::string> key_paths() {
  std::vector<std::string> paths;
  Root root;
  KeyPaths lister{"", paths};
  fields(lister, root);
  return paths;
}

// What messages call the whole of a file.
template <class Root>
inline constexpr std::string_view kRootName = "a configuration";

// `valid`: the keys of the section at `path`; `everywhere`: key_paths of its root.
[[noreturn]] void fail_unknown_key(const ConfigEntry& entry, const std::string& path, std::string_view root,
                                   const std::vector<std::string>& valid,
                                   const std::vector<std::string>& everywhere);

// Reads one section of a Root: visited with every key of its table.
template <class Root>
class SectionReader {
 public:
  template <class T>
  static void read_section(const ConfigNode& node, const std::string& path, T& section) {
    KeyNames keys;
    T probe{};
    fields(keys, probe);
    for (const ConfigEntry& entry : node.entries)
      if (std::find(keys.names.begin(), keys.names.end(), entry.key) == keys.names.end())
        fail_unknown_key(entry, path, kRootName<Root>, keys.names, key_paths<Root>());
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
      read_choice(*type, path + ".type", std::string(kGroupTypes));
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

}  // namespace polar
