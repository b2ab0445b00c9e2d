// A configuration as a tree of untyped values in which every value remembers where it was written, so that
// any later error can name the file and the line, or the override.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace polar {

struct ConfigEntry;

struct ConfigNode {
  enum class Kind { null, scalar, sequence, map };
  Kind kind = Kind::null;
  std::string text;                  // scalar
  bool quoted = false;               // scalar: written in quotes, so certainly text
  std::vector<ConfigNode> items;     // sequence
  std::vector<ConfigEntry> entries;  // map, in the order of the file; keys are unique
  bool taken_back = false;           // null: an override without a value brings the default back
  std::string origin;                // "configs/demo.yaml:12" or "override 'train.max_steps=20'"

  const ConfigNode* find(std::string_view key) const;
  ConfigNode* find(std::string_view key);
  // How a message shows this value: "the number-like 12", "a list", ...
  std::string described() const;
};

struct ConfigEntry {
  std::string key;
  std::string origin;
  std::string comment;  // printed above the key
  ConfigNode value;
};

// Reads a file and, before it, the files of its `include:` key (relative to the including file; a later key
// wins, maps merge deeply, lists replace whole, a key without a value removes the included one). Errors (exit
// code 2): no such file, a directory, broken YAML, a duplicate key, a key without a value, anchors, tags,
// several documents, an include that includes itself.
// `expected`: what messages say that a file should hold.
ConfigNode read_config_tree(
    const std::filesystem::path& file,
    std::string_view expected =
        "the sections of a configuration: model, data, ... (see configs/reference.yaml)");

// Sets the value at a dotted path: "train.max_steps=20", "optimizer.groups.0.betas=[0.9,0.99]". The value
// replaces what stood there; an empty one brings the default back.
void apply_override(ConfigNode& root, const std::string& assignment);

// Where the value at `path` was written; of its nearest parent if it is not given.
std::string origin_of(const ConfigNode& root, std::string_view path);

// The tree as YAML text, comments included.
std::string print_yaml(const ConfigNode& root);

// One value, as YAML flow text where it is a list or a map: what stands behind "key=" in an override.
std::string print_flow(const ConfigNode& node);

std::vector<std::string> split(std::string_view text, char separator);

// YAML text to a tree; `name` stands for it in messages: "name:line" unless `whole_name`, which is for texts
// of one line such as overrides. Without includes.
ConfigNode parse_yaml(const std::string& text, const std::string& name, bool whole_name = false);

}  // namespace polar
