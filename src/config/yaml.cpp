// YAML text to a ConfigNode and back. yaml-cpp's events are used instead of its Node: they carry the place of
// keys and values and let duplicate keys, anchors and tags be refused where they stand.
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <optional>
#include <sstream>

#include "base/error.h"
#include "config/tree.h"

namespace polar {
namespace {

class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string name, bool whole_name) : name_(std::move(name)), whole_name_(whole_name) {}

  ConfigNode take() { return std::move(root_); }
  std::string place(const YAML::Mark& mark) const {
    return whole_name_ || mark.is_null() ? name_ : fmt::format("{}:{}", name_, mark.line + 1);
  }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAnchor(const YAML::Mark& mark, const std::string&) override { refuse_anchor(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse_anchor(mark); }

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (expects_key()) fail_usage("{}: a key is missing before ':'", place(mark));
    add(mark, "?", anchor, ConfigNode::Kind::null);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (expects_key()) return add_key(mark, value);
    ConfigNode& node = add(mark, tag, anchor, ConfigNode::Kind::scalar);
    node.text = value;
    node.quoted = tag == "!";
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, ConfigNode::Kind::sequence);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, ConfigNode::Kind::map);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Open {
    ConfigNode node;
    std::optional<ConfigEntry> entry;  // a key whose value has not come yet
  };

  bool expects_key() const {
    return !open_.empty() && open_.back().node.kind == ConfigNode::Kind::map && !open_.back().entry;
  }

  void add_key(const YAML::Mark& mark, const std::string& key) {
    Open& parent = open_.back();
    for (const ConfigEntry& entry : parent.node.entries)
      if (entry.key == key)
        fail_usage("{}: the key '{}' stands here a second time (first at {}); keep one of them", place(mark),
                   key, entry.origin);
    parent.entry = ConfigEntry{.key = key, .origin = place(mark), .comment = {}, .value = {}};
  }

  ConfigNode make(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  ConfigNode::Kind kind) const {
    if (anchor != 0) refuse_anchor(mark);
    if (!tag.empty() && tag != "?" && tag != "!")
      fail_usage("{}: found the YAML tag '{}'; tags are not used in configurations: leave it out",
                 place(mark), tag);
    ConfigNode node;
    node.kind = kind;
    node.origin = place(mark);
    return node;
  }

  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, ConfigNode::Kind kind) {
    if (expects_key())
      fail_usage("{}: found a list or a map where a key was expected; is a bracket not closed?", place(mark));
    open_.push_back({make(mark, tag, anchor, kind), std::nullopt});
  }

  void close() {
    ConfigNode node = std::move(open_.back().node);
    open_.pop_back();
    store(std::move(node));
  }

  ConfigNode& add(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  ConfigNode::Kind kind) {
    return store(make(mark, tag, anchor, kind));
  }

  ConfigNode& store(ConfigNode node) {
    if (open_.empty()) return root_ = std::move(node);
    Open& parent = open_.back();
    if (parent.node.kind == ConfigNode::Kind::sequence)
      return parent.node.items.emplace_back(std::move(node));
    parent.entry->value = std::move(node);
    parent.node.entries.push_back(std::move(*parent.entry));
    parent.entry.reset();
    return parent.node.entries.back().value;
  }

  [[noreturn]] void refuse_anchor(const YAML::Mark& mark) const {
    fail_usage(
        "{}: found a YAML anchor or alias (& or *); configurations share parts with 'include:'. A text that "
        "begins with * or & must stand in quotes",
        place(mark));
  }

  std::string name_;
  bool whole_name_;
  ConfigNode root_;
  std::vector<Open> open_;
};

// Plain text stays plain only where no reader could take it for anything but text.
bool needs_quotes(std::string_view text) {
  if (text.empty() || text == "null") return true;
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (!is_letter(text.front())) return true;
  for (const char c : text)
    if (!is_letter(c) && !(c >= '0' && c <= '9') && c != '_' && c != '-' && c != '.' && c != '/') return true;
  return text == "true" || text == "false";
}

std::string print_scalar(const ConfigNode& node) {
  if (!node.quoted || !needs_quotes(node.text)) return node.text;
  std::string result;
  for (const char c : node.text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\')
      result += {'\\', c};
    else if (byte < 0x20 || byte == 0x7F)
      result += fmt::format("\\x{:02x}", byte);
    else
      result += c;
  }
  return fmt::format("\"{}\"", result);
}

bool is_block(const ConfigNode& node) {
  if (node.kind == ConfigNode::Kind::map) return !node.entries.empty();
  if (node.kind != ConfigNode::Kind::sequence || node.items.empty()) return false;
  return node.items.front().kind == ConfigNode::Kind::map;
}

void print_block(const ConfigNode& node, size_t indent, std::string& out);

void print_entry(const ConfigEntry& entry, size_t indent, std::string& out) {
  const std::string margin(indent, ' ');
  if (!entry.comment.empty()) {
    if (indent == 0) out += "\n";
    for (const std::string& line : split(entry.comment, '\n')) out += fmt::format("{}# {}\n", margin, line);
  }
  if (is_block(entry.value)) {
    out += fmt::format("{}{}:\n", margin, entry.key);
    print_block(entry.value, indent + 2, out);
  } else {
    out += fmt::format("{}{}: {}\n", margin, entry.key, print_flow(entry.value));
  }
}

// The first entry of a map inside a list stands behind "- ", whose width is one level of indentation.
void print_block(const ConfigNode& node, size_t indent, std::string& out) {
  if (node.kind == ConfigNode::Kind::sequence) {
    for (const ConfigNode& item : node.items) {
      std::string text;
      print_block(item, indent + 2, text);
      text[indent] = '-';
      out += text;
    }
    return;
  }
  for (const ConfigEntry& entry : node.entries) print_entry(entry, indent, out);
}

}  // namespace

ConfigNode parse_yaml(const std::string& text, const std::string& name, bool whole_name) {
  TreeBuilder builder(name, whole_name);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    ConfigNode root = builder.take();
    if (parser.HandleNextDocument(builder))
      fail_usage("{}: found a second YAML document ('---'); a configuration is one document", name);
    return root;
  } catch (const YAML::Exception& error) {
    const size_t tab = text.find('\t');
    fail_usage("{}: this is not YAML: {}{}", builder.place(error.mark), error.msg,
               tab == std::string::npos ? "" : " (the text has tabs; YAML is indented with spaces only)");
  }
}

std::string print_flow(const ConfigNode& node) {
  std::vector<std::string> parts;
  switch (node.kind) {
    case ConfigNode::Kind::null:
      return "null";
    case ConfigNode::Kind::scalar:
      return print_scalar(node);
    case ConfigNode::Kind::sequence:
      for (const ConfigNode& item : node.items) parts.push_back(print_flow(item));
      return fmt::format("[{}]", fmt::join(parts, ", "));
    case ConfigNode::Kind::map:
      for (const ConfigEntry& entry : node.entries)
        parts.push_back(fmt::format("{}: {}", entry.key, print_flow(entry.value)));
      return fmt::format("{{{}}}", fmt::join(parts, ", "));
  }
  return {};
}

std::string print_yaml(const ConfigNode& root) {
  std::string out;
  print_block(root, 0, out);
  return out;
}

}  // namespace polar
