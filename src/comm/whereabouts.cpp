#include "comm/whereabouts.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace polar {
namespace {

// The shortest and the longest of several times.
struct Range {
  double least = 0.0, most = 0.0;
  bool empty = true;
  void add(double seconds) {
    least = empty ? seconds : std::min(least, seconds);
    most = empty ? seconds : std::max(most, seconds);
    empty = false;
  }
  std::string text() const {
    const std::string a = fmt::format("{:.1f}", least), b = fmt::format("{:.1f}", most);
    return a == b ? a + " s" : fmt::format("{} to {} s", a, b);
  }
};

// Ranks of which the same is to be said but for the times.
struct Group {
  const Sighting* first = nullptr;
  std::vector<int> ranks;
  Range silent, phase;
  std::array<Range, Activity::kLanes> operations;
  bool behind = false, is_silent = false;

  void add(const Sighting& rank) {
    if (first == nullptr) first = &rank;
    ranks.push_back(rank.rank);
    silent.add(rank.silent);
    phase.add(rank.state.phase_age);
    for (size_t i = 0; i < operations.size(); ++i) operations[i].add(rank.state.operations[i].age);
  }
};

const char* lane_name(size_t lane) {
  return static_cast<Activity::Lane>(lane) == Activity::Lane::device ? "device operation" : "operation";
}

// What it is in, or else what it did last.
std::string operations_text(const Group& group) {
  const auto& operations = group.first->state.operations;
  std::string text;
  for (size_t i = 0; i < operations.size(); ++i)
    if (operations[i].waits())
      text += fmt::format("{}{} {}, {}, for {}", text.empty() ? ", in " : " and in ", lane_name(i),
                          operations[i].begun, operations[i].name, group.operations[i].text());
  if (!text.empty()) return text;
  for (size_t i = operations.size(); i-- > 0;)
    if (operations[i].begun > 0)
      return fmt::format(", after {} {}, {}", lane_name(i), operations[i].begun, operations[i].name);
  return "";
}

std::string place_text(const Group& group) {
  const Activity::State& state = group.first->state;
  const std::string step = state.step > 0 ? fmt::format("step {}, ", state.step) : "";
  const std::string place =
      fmt::format("{}{}, for {}{}", step, state.phase, group.phase.text(), operations_text(group));
  if (!group.is_silent) return place;
  return fmt::format("no sign of life for {}; last seen in {}", group.silent.text(), place);
}

// "0-3, 5"
std::string numbers(const std::vector<int>& ranks) {
  std::string text;
  for (size_t i = 0; i < ranks.size();) {
    size_t last = i;
    while (last + 1 < ranks.size() && ranks[last + 1] == ranks[last] + 1) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", ranks[i]);
    if (last > i) text += fmt::format("-{}", ranks[last]);
    i = last + 1;
  }
  return text;
}

std::string line(const Group& group) {
  const bool one = group.ranks.size() == 1;
  return fmt::format("\n  {}{}: {}", one ? group.first->name : "ranks " + numbers(group.ranks),
                     !group.behind ? ""
                     : one         ? " is behind"
                                   : " are behind",
                     place_text(group));
}

// What ranks of a group have in common.
std::string key_of(const Sighting& rank, bool behind, bool silent) {
  std::string key = fmt::format("{} {} {} {}", behind, silent, rank.state.step, rank.state.phase);
  for (const Activity::Operation& operation : rank.state.operations)
    key += fmt::format(" {} {}", operation.begun, operation.done);
  return key;
}

}  // namespace

std::vector<size_t> find_behind(const std::vector<Sighting>& ranks, double silence, double stalled) {
  std::vector<size_t> found;
  const auto collect = [&](const auto& is_behind) {
    for (size_t i = 0; i < ranks.size(); ++i)
      if (is_behind(ranks[i])) found.push_back(i);
  };
  collect([&](const Sighting& rank) { return rank.silent > silence; });
  if (!found.empty()) return found;

  double longest = 0.0;
  size_t lane = 0;
  uint64_t number = 0;
  for (const Sighting& rank : ranks)
    for (size_t i = 0; i < rank.state.operations.size(); ++i) {
      const Activity::Operation& operation = rank.state.operations[i];
      if (!operation.waits() || operation.age + rank.silent <= longest) continue;
      longest = operation.age + rank.silent;
      lane = i;
      number = operation.begun;
    }
  collect([&](const Sighting& rank) { return rank.state.operations[lane].begun < number; });
  if (!found.empty() || longest > 0.0) return found;

  collect([&](const Sighting& rank) {
    return rank.state.bound == Activity::Bound::timeout && rank.state.progress_age + rank.silent > stalled;
  });
  return found;
}

std::string whereabouts(const Sighting& rank, double silence) {
  Group group;
  group.is_silent = rank.silent > silence;
  group.add(rank);
  return place_text(group);
}

std::string whereabouts(const std::vector<Sighting>& ranks, double silence, double stalled) {
  const std::vector<size_t> behind = find_behind(ranks, silence, stalled);
  std::map<std::string, Group> groups;
  for (size_t i = 0; i < ranks.size(); ++i) {
    const bool is_behind = std::find(behind.begin(), behind.end(), i) != behind.end();
    const bool is_silent = ranks[i].silent > silence;
    Group& group = groups[key_of(ranks[i], is_behind, is_silent)];
    group.behind = is_behind;
    group.is_silent = is_silent;
    group.add(ranks[i]);
  }
  std::vector<const Group*> order;
  for (const auto& [key, group] : groups) order.push_back(&group);
  std::sort(order.begin(), order.end(), [](const Group* a, const Group* b) {
    return a->behind != b->behind ? a->behind : a->first->rank < b->first->rank;
  });
  std::string text;
  for (const Group* group : order) text += line(*group);
  return text;
}

}  // namespace polar
