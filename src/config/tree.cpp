#include "config/tree.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/file.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kLargestFile = uintmax_t{1} << 20;  // bytes; more is not a configuration but a mistake

std::string read_text(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error))
    fail_usage("{}: there is no such configuration file (working directory {})", file.string(),
               fs::current_path(error).string());
  if (!fs::is_regular_file(file, error))
    fail_usage("{}: found {}, expected a YAML file", file.string(),
               fs::is_directory(file, error) ? "a directory" : "something that is no regular file");
  if (const uintmax_t size = fs::file_size(file, error); !error && size > kLargestFile)
    fail_usage("{}: found {} bytes, expected a YAML configuration of at most {}", file.string(), size,
               kLargestFile);
  try {
    return read_file(file);
  } catch (const Error& failure) {
    fail_usage("{}", failure.what());
  }
}

// `over` wins: maps merge key by key, everything else replaces; a key without a value removes the base's.
void merge(ConfigNode& base, ConfigNode over) {
  if (base.kind != ConfigNode::Kind::map || over.kind != ConfigNode::Kind::map) {
    base = std::move(over);
    return;
  }
  for (ConfigEntry& entry : over.entries) {
    ConfigNode* present = base.find(entry.key);
    if (!present)
      base.entries.push_back(std::move(entry));
    else if (entry.value.kind == ConfigNode::Kind::null)
      std::erase_if(base.entries, [&](const ConfigEntry& other) { return other.key == entry.key; });
    else
      merge(*present, std::move(entry.value));
  }
  base.origin = over.origin;
}

std::vector<const ConfigNode*> included_files(const ConfigNode& include) {
  std::vector<const ConfigNode*> files;
  if (include.kind == ConfigNode::Kind::scalar) files.push_back(&include);
  for (const ConfigNode& item : include.items) files.push_back(&item);
  for (const ConfigNode* file : files)
    if (file->kind != ConfigNode::Kind::scalar || file->text.empty()) files.clear();
  if (files.empty())
    fail_usage("{}: include: found {}, expected a file name or a list of file names", include.origin,
               include.described());
  return files;
}

ConfigNode read_with_includes(const fs::path& file, std::string_view expected, std::vector<fs::path>& chain) {
  ConfigNode root = parse_yaml(read_text(file), file.string());
  if (root.kind == ConfigNode::Kind::null)
    fail_usage("{}: the file is empty; expected {}", file.string(), expected);
  if (root.kind != ConfigNode::Kind::map)
    fail_usage("{}: found {}, expected {}", root.origin, root.described(), expected);
  const ConfigNode* include = root.find("include");
  if (!include) return root;

  ConfigNode merged;
  merged.kind = ConfigNode::Kind::map;
  for (const ConfigNode* name : included_files(*include)) {
    const fs::path path = (file.parent_path() / name->text).lexically_normal();
    std::error_code error;
    const fs::path next = fs::weakly_canonical(path, error);
    if (std::find(chain.begin(), chain.end(), next) != chain.end())
      fail_usage("{}: include: '{}' includes itself, directly or through other files", name->origin,
                 name->text);
    if (!fs::exists(next, error))
      fail_usage("{}: include: there is no file '{}' (names are relative to the including file)",
                 name->origin, name->text);
    chain.push_back(next);
    merge(merged, read_with_includes(path, expected, chain));
    chain.pop_back();
  }
  std::erase_if(root.entries, [](const ConfigEntry& entry) { return entry.key == "include"; });
  merge(merged, std::move(root));
  return merged;
}

bool parse_index(const std::string& text, size_t& index) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  return error == std::errc() && end == text.data() + text.size();
}

// The value behind '=': YAML where it is a list, a map or quoted; else the characters as they are, so that
// patterns such as data/*.bin need no quotes.
ConfigNode parse_value(const std::string& text, const std::string& origin) {
  if (std::string_view("[{\"'").find(text.front()) != std::string_view::npos)
    return parse_yaml(text, origin, true);
  ConfigNode node;
  node.kind = ConfigNode::Kind::scalar;
  node.text = text;
  node.origin = origin;
  return node;
}

// The child of `node` at one segment of a dotted path, made where it does not exist.
ConfigNode& descend(ConfigNode& node, const std::string& segment, const std::string& origin) {
  size_t index = 0;
  const bool is_index = parse_index(segment, index);
  if (node.kind == ConfigNode::Kind::null) {
    node.kind = is_index ? ConfigNode::Kind::sequence : ConfigNode::Kind::map;
    node.origin = origin;
  }
  if (node.kind == ConfigNode::Kind::scalar)
    fail_usage("{}: '{}' cannot be set inside the plain value '{}' (given at {})", origin, segment, node.text,
               node.origin);
  if (node.kind == ConfigNode::Kind::map) {
    if (ConfigNode* child = node.find(segment)) return *child;
    return node.entries
        .emplace_back(ConfigEntry{.key = segment, .origin = origin, .comment = {}, .value = {}})
        .value;
  }
  if (!is_index || index > node.items.size())
    fail_usage("{}: found '{}', expected a position in a list of {} (0 is the first; {} appends one)", origin,
               segment, node.items.size(), node.items.size());
  if (index == node.items.size()) node.items.emplace_back();
  return node.items[index];
}

}  // namespace

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

const ConfigNode* ConfigNode::find(std::string_view key) const {
  for (const ConfigEntry& entry : entries)
    if (entry.key == key) return &entry.value;
  return nullptr;
}

ConfigNode* ConfigNode::find(std::string_view key) {
  return const_cast<ConfigNode*>(std::as_const(*this).find(key));
}

std::string ConfigNode::described() const {
  switch (kind) {
    case Kind::null:
      return "no value";
    case Kind::scalar:
      return fmt::format("{}'{}'", quoted ? "the quoted text " : "", text);
    case Kind::sequence:
      return fmt::format("a list of {}", items.size());
    case Kind::map:
      return "a map";
  }
  return {};
}

ConfigNode read_config_tree(const std::filesystem::path& file, std::string_view expected) {
  std::error_code error;
  std::vector<fs::path> chain{fs::weakly_canonical(file, error)};
  return read_with_includes(file, expected, chain);
}

void apply_override(ConfigNode& root, const std::string& assignment) {
  const std::string origin = fmt::format("override '{}'", assignment);
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos)
    fail_usage("{}: found no '=', expected section.key=value, such as train.max_steps=20", origin);
  const std::vector<std::string> path = split(std::string_view(assignment).substr(0, equals), '.');
  if (std::any_of(path.begin(), path.end(), [](const std::string& part) { return part.empty(); }))
    fail_usage("{}: found an empty name before '=', expected section.key=value, such as train.max_steps=20",
               origin);
  if (path.front() == "include")
    fail_usage("{}: 'include' works only inside a file; name that file as the configuration instead", origin);

  const std::string value = assignment.substr(equals + 1);
  ConfigNode* node = &root;
  for (const std::string& segment : path) {
    node = &descend(*node, segment, origin);
    if (node->origin.empty()) node->origin = origin;
  }
  if (value.empty()) {
    *node = ConfigNode();
    node->origin = origin;
    node->taken_back = true;
  } else {
    *node = parse_value(value, origin);
  }
}

std::string origin_of(const ConfigNode& root, std::string_view path) {
  const ConfigNode* node = &root;
  std::string origin = root.origin;
  for (const std::string& segment : split(path, '.')) {
    size_t index = 0;
    if (node->kind == ConfigNode::Kind::sequence)
      node = parse_index(segment, index) && index < node->items.size() ? &node->items[index] : nullptr;
    else
      node = node->find(segment);
    if (!node) break;
    origin = node->origin;
  }
  return origin;
}

}  // namespace polar
