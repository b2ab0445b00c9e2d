#include "config/experiment.h"

#include <map>
#include <span>

#include "base/error.h"
#include "base/file.h"
#include "config/checks.h"
#include "config/reader.h"
#include "config/tree.h"
#include "config/writer.h"

namespace polar {
namespace {

using Lines = std::vector<std::pair<std::string, std::string>>;  // dotted key, value

void flatten(const ConfigNode& node, const std::string& path, Lines& lines) {
  const std::string prefix = path.empty() ? "" : path + ".";
  if (node.kind == ConfigNode::Kind::map) {
    for (const ConfigEntry& entry : node.entries) flatten(entry.value, prefix + entry.key, lines);
  } else if (node.kind == ConfigNode::Kind::sequence && !node.items.empty() &&
             node.items.front().kind == ConfigNode::Kind::map) {
    for (size_t i = 0; i < node.items.size(); ++i) flatten(node.items[i], prefix + std::to_string(i), lines);
  } else {
    lines.emplace_back(path, print_flow(node));
  }
}

Lines flat(const Experiment& experiment, WriteKeys keys) {
  Lines lines;
  flatten(to_tree(experiment, keys), "", lines);
  return lines;
}

}  // namespace

Experiment load_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides) {
  ConfigNode root = read_config_tree(file);
  for (const std::string& assignment : overrides) apply_override(root, assignment);
  Experiment experiment = read_experiment(root);
  resolve_and_check(experiment, root);
  return experiment;
}

std::string config_hash(const Experiment& experiment) {
  std::string text;
  for (const auto& [key, value] : flat(experiment, WriteKeys::changing_the_result))
    text += key + "=" + value + "\n";
  return checksum(std::as_bytes(std::span(text)));
}

std::vector<std::string> differences(const Experiment& a, const Experiment& b, Compare compare) {
  const WriteKeys keys = compare == Compare::all_keys ? WriteKeys::all : WriteKeys::changing_the_result;
  const Lines of_a = flat(a, keys), of_b = flat(b, keys);
  const std::map<std::string, std::string> in_a(of_a.begin(), of_a.end()), in_b(of_b.begin(), of_b.end());
  std::vector<std::string> result;
  for (const auto& [key, value] : of_a) {
    const auto other = in_b.find(key);
    if (other == in_b.end() || other->second != value)
      result.push_back(
          fmt::format("{}: {} -> {}", key, value, other == in_b.end() ? "(not set)" : other->second));
  }
  for (const auto& [key, value] : of_b)
    if (!in_a.contains(key)) result.push_back(fmt::format("{}: (not set) -> {}", key, value));
  return result;
}

}  // namespace polar
