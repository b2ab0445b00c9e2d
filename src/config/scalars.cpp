#include "config/scalars.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "config/describe.h"
#include "config/reader.h"

namespace polar {
namespace {

bool all_digits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Why a text that a person may take for a number is none here; empty if there is nothing to say.
std::string number_hint(const ConfigNode& node, bool integer) {
  const std::string& text = node.text;
  if (node.quoted) return "write it without quotes";
  if (text.find('_') != std::string::npos || text.find(',') != std::string::npos)
    return "write it without separators";
  if (text.size() > 1 && text[0] == '0' && all_digits(text)) return "leading zeros are not allowed";
  double number = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (integer && whole && number == std::floor(number) && std::abs(number) < 1e15)
    return fmt::format("write {:.0f}", number);
  return "";
}

bool has_leading_zero(std::string_view text) {
  if (text.starts_with('-')) text.remove_prefix(1);
  return text.size() > 1 && text[0] == '0' && text[1] >= '0' && text[1] <= '9';
}

template <class T>
T parse_number(const ConfigNode& node, const std::string& path, const std::string& expected) {
  constexpr bool integer = std::is_integral_v<T>;
  T number{};
  const std::string& text = node.text;
  if (node.kind != ConfigNode::Kind::scalar || node.quoted || has_leading_zero(text))
    fail_value(node, path, expected, number_hint(node, integer));
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range)
    fail_value(node, path, expected,
               fmt::format("it does not fit a 64-bit {}", integer ? "integer" : "number"));
  if (error != std::errc() || end != text.data() + text.size())
    fail_value(node, path, expected, number_hint(node, integer));
  return number;
}

}  // namespace

void fail_value(const ConfigNode& node, const std::string& path, const std::string& expected,
                const std::string& hint) {
  fail_usage("{}: {}: found {}, expected {}{}", node.origin, path, node.described(), expected,
             hint.empty() ? "" : " (" + hint + ")");
}

void read_scalar(const Key& key, const ConfigNode& node, const std::string& path, int64_t& value) {
  value = parse_number<int64_t>(node, path, describe(key, value));
  if (!key.range.contains(static_cast<double>(value))) fail_value(node, path, describe(key, value));
}

void read_scalar(const Key& key, const ConfigNode& node, const std::string& path, uint64_t& value) {
  value = parse_number<uint64_t>(node, path, describe(key, value));
}

void read_scalar(const Key& key, const ConfigNode& node, const std::string& path, double& value) {
  const std::string expected = describe(key, value);
  value = parse_number<double>(node, path, expected);
  if (!std::isfinite(value)) fail_value(node, path, expected, "it must be finite");
  if (!key.range.contains(value)) fail_value(node, path, expected);
}

void read_scalar(const Key& key, const ConfigNode& node, const std::string& path, bool& value) {
  const bool plain = node.kind == ConfigNode::Kind::scalar && !node.quoted;
  if (!plain || (node.text != "true" && node.text != "false"))
    fail_value(node, path, describe(key, value), node.quoted ? "write it without quotes" : "");
  value = node.text == "true";
}

void read_scalar(const Key& key, const ConfigNode& node, const std::string& path, std::string& value) {
  if (node.kind != ConfigNode::Kind::scalar) fail_value(node, path, describe(key, value));
  if (!key.choices.empty()) read_choice(node, path, std::string(key.choices));
  if (node.text.find('\0') != std::string::npos) fail_value(node, path, "text without NUL characters");
  value = node.text;
}

size_t read_choice(const ConfigNode& node, const std::string& path, const std::string& choices) {
  std::vector<std::string> names;
  for (const std::string& part : split(choices, '|')) {
    const size_t first = part.find_first_not_of(' ');
    names.push_back(part.substr(first, part.find_last_not_of(' ') - first + 1));
  }
  if (node.kind != ConfigNode::Kind::scalar) fail_value(node, path, choices);
  const auto found = std::find(names.begin(), names.end(), node.text);
  if (found != names.end()) return static_cast<size_t>(found - names.begin());
  const std::string near = nearest(node.text, names);
  fail_value(node, path, choices, near.empty() ? "" : "did you mean '" + near + "'?");
}

}  // namespace polar
