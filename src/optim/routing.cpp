#include "optim/routing.h"

#include <algorithm>

#include "base/error.h"
#include "optim/oracle.h"

namespace polar {
namespace {

bool matches(const GroupConfig& group, std::string_view name) {
  return std::any_of(group.match.begin(), group.match.end(),
                     [&](const std::string& pattern) { return glob_match(pattern, name); });
}

int first_match(const std::vector<GroupConfig>& groups, const Parameter& parameter) {
  for (size_t g = 0; g < groups.size(); ++g)
    if (matches(groups[g], parameter.name)) return static_cast<int>(g);
  fail_usage(
      "optimizer.groups: no pattern matches parameter {} {}; every parameter needs a group: extend a group's "
      "`match`, or end the list with a group that has match: [\"*\"]",
      parameter.name, parameter.shape.text());
}

void check_kind(const GroupConfig& group, int index, const Parameter& parameter) {
  if (group.type == GroupType::adamw || parameter.shape.rank() == 2) return;
  if (group.type == GroupType::matrix && takes_vectors(group.oracle.kind)) return;
  fail_usage(
      "optimizer.groups.{} ({}): claims {} of shape {}, but a matrix optimizer needs two dimensions; narrow "
      "its `match` (e.g. \"*_proj.weight\"), or put an adamw group that matches {} before it",
      index, group.name, parameter.name, parameter.shape.text(), parameter.name);
}

// A pattern that does nothing is a typing error or a forgotten rule: either way not what the user meant.
void check_patterns(const std::vector<GroupConfig>& groups, const ParameterRegistry& registry,
                    const std::vector<int>& routes) {
  const auto& parameters = registry.parameters();
  for (size_t g = 0; g < groups.size(); ++g) {
    for (const std::string& pattern : groups[g].match)
      if (std::none_of(parameters.begin(), parameters.end(),
                       [&](const Parameter& p) { return glob_match(pattern, p.name); }))
        fail_usage(
            "optimizer.groups.{}.match: pattern \"{}\" matches no parameter of the model (the first is named "
            "{}); correct it or remove it; `*` stands for any characters, `?` for one",
            g, pattern, parameters.empty() ? std::string("?") : parameters.front().name);
    if (std::find(routes.begin(), routes.end(), static_cast<int>(g)) == routes.end())
      fail_usage(
          "optimizer.groups.{} ({}): claims no parameter: all that it matches belongs to groups before it, "
          "and the first match wins; move it up, narrow the groups before it, or remove it",
          g, groups[g].name);
  }
}

}  // namespace

bool glob_match(std::string_view pattern, std::string_view text) {
  // On a mismatch the last star takes one character more; earlier stars never need to be tried again.
  size_t p = 0, t = 0, star = std::string_view::npos, star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

std::vector<int> route_parameters(const std::vector<GroupConfig>& groups, const ParameterRegistry& registry) {
  std::vector<int> routes;
  for (const Parameter& parameter : registry.parameters()) {
    const int g = first_match(groups, parameter);
    check_kind(groups[static_cast<size_t>(g)], g, parameter);
    routes.push_back(g);
  }
  check_patterns(groups, registry, routes);
  return routes;
}

}  // namespace polar
