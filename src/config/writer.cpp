#include "config/writer.h"

#include <set>

#include "base/error.h"
#include "config/describe.h"
#include "config/fields.h"
#include "config/reader.h"

namespace polar {
namespace {

ConfigNode scalar(std::string text, bool quoted) {
  ConfigNode node;
  node.kind = ConfigNode::Kind::scalar;
  node.text = std::move(text);
  node.quoted = quoted;
  return node;
}

struct WriteOptions {
  WriteKeys keys = WriteKeys::all;
  bool comments = false;
  std::set<std::string>* documented = nullptr;  // keys whose comment has been written
};

template <class T>
ConfigNode write_section(const T& section, const std::string& path, const WriteOptions& options);

template <class T>
requires std::is_integral_v<T> ConfigNode write(const T& value, const std::string&, const WriteOptions&) {
  return scalar(fmt::format("{}", value), false);
}

// The shortest digits that read back as the same number; 1.0e-08 and not 1e-08, which YAML 1.1 takes for
// text.
ConfigNode write(const double& value, const std::string&, const WriteOptions&) {
  std::string text = fmt::format("{}", value);
  const size_t exponent = text.find('e');
  if (exponent != std::string::npos && text.find('.') == std::string::npos) text.insert(exponent, ".0");
  return scalar(std::move(text), false);
}

ConfigNode write(const std::string& value, const std::string&, const WriteOptions&) {
  return scalar(value, true);
}

template <class E>
requires std::is_enum_v<E> ConfigNode write(const E& value, const std::string&, const WriteOptions&) {
  return scalar(std::string(EnumNames<E>::names.at(static_cast<size_t>(value))), false);
}

template <class T>
requires std::is_aggregate_v<T> ConfigNode write(const T& section, const std::string& path,
                                                 const WriteOptions& options) {
  return write_section(section, path + ".", options);
}

template <class List>
ConfigNode write_list(const List& values, const std::string& path, const WriteOptions& options) {
  ConfigNode node;
  node.kind = ConfigNode::Kind::sequence;
  for (const auto& value : values) node.items.push_back(write(value, path + ".N", options));
  return node;
}

template <size_t N>
ConfigNode write(const std::array<double, N>& values, const std::string& path, const WriteOptions& options) {
  return write_list(values, path, options);
}

template <class T>
ConfigNode write(const std::vector<T>& values, const std::string& path, const WriteOptions& options) {
  return write_list(values, path, options);
}

template <class Name, class List>
ConfigNode write(const Coefficients<Name, List>& value, const std::string& path,
                 const WriteOptions& options) {
  return value.list.empty() ? scalar(value.name, true) : write_list(value.list, path, options);
}

template <class T>
ConfigNode write(const std::optional<T>& value, const std::string& path, const WriteOptions& options) {
  return value ? write(*value, path, options) : ConfigNode{};
}

// The defaults that hold for a section: of a group, those of its type.
template <class T>
T defaults_for(const T&) {
  return T{};
}
GroupConfig defaults_for(const GroupConfig& group) {
  return group_defaults(group.name);
}

// The default of each key of a section, as YAML text; empty for sections and for lists of them.
struct DefaultTexts {
  std::vector<std::string> texts;
  template <class T>
  void operator()(const Key&, T&& value) {
    const ConfigNode node = write(value, "", WriteOptions{});
    const bool section = node.kind == ConfigNode::Kind::map || node.kind == ConfigNode::Kind::null;
    texts.push_back(section ? "" : print_flow(node));
  }
};

class SectionWriter {
 public:
  SectionWriter(std::string path, const WriteOptions& options, std::vector<std::string> defaults)
      : path_(std::move(path)), options_(options), defaults_(std::move(defaults)) {
    node_.kind = ConfigNode::Kind::map;
  }
  ConfigNode take() { return std::move(node_); }

  template <class T>
  void operator()(const Key& key, T&& value) {
    const size_t position = position_++;
    if (!key.applies || (options_.keys == WriteKeys::changing_the_result && !key.changes_result)) return;
    const std::string path = path_ + std::string(key.name);
    std::string comment;
    if (options_.comments && options_.documented->insert(path).second)
      comment = document(key, describe(key, value), defaults_[position]);
    ConfigNode node = write(value, path, options_);
    if (node.kind == ConfigNode::Kind::null) return;  // an optional section that is not given
    node_.entries.push_back({.key = std::string(key.name),
                             .origin = {},
                             .comment = std::move(comment),
                             .value = std::move(node)});
  }

 private:
  // The meaning of a key and, in brackets, the facts; on two lines if they are long.
  static std::string document(const Key& key, const std::string& type, const std::string& default_text) {
    std::vector<std::string> facts{type};
    if (!key.unit.empty()) facts.push_back(fmt::format("unit: {}", key.unit));
    if (key.required) facts.emplace_back("required");
    if (!key.required && !default_text.empty()) facts.push_back("default: " + default_text);
    if (!key.applies_to.empty()) facts.push_back(fmt::format("only with {}", key.applies_to));
    const std::string bracket = fmt::format("[{}]", fmt::join(facts, "; "));
    constexpr size_t kLineLength = 100;
    return fmt::format("{}{}{}", key.doc, key.doc.size() + bracket.size() < kLineLength ? ' ' : '\n',
                       bracket);
  }

  std::string path_;
  const WriteOptions& options_;
  std::vector<std::string> defaults_;  // by position; only with comments
  size_t position_ = 0;
  ConfigNode node_;
};

template <class T>
ConfigNode write_section(const T& section, const std::string& path, const WriteOptions& options) {
  DefaultTexts defaults;
  if (options.comments) {
    const T values = defaults_for(section);
    fields(defaults, values);
  }
  SectionWriter writer(path, options, std::move(defaults.texts));
  fields(writer, section);
  return writer.take();
}

}  // namespace

ConfigNode to_tree(const Experiment& experiment, WriteKeys keys, bool comments) {
  std::set<std::string> documented;
  return write_section(experiment, "", {.keys = keys, .comments = comments, .documented = &documented});
}

std::string to_yaml(const Experiment& experiment) {
  return print_yaml(to_tree(experiment));
}

}  // namespace polar
