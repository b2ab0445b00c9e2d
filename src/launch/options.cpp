#include "launch/options.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace polar::launch {
namespace {

constexpr std::array<std::pair<const char*, int>, 19> kSignals{{{"SIGHUP", SIGHUP},
                                                                {"SIGINT", SIGINT},
                                                                {"SIGQUIT", SIGQUIT},
                                                                {"SIGILL", SIGILL},
                                                                {"SIGTRAP", SIGTRAP},
                                                                {"SIGABRT", SIGABRT},
                                                                {"SIGBUS", SIGBUS},
                                                                {"SIGFPE", SIGFPE},
                                                                {"SIGKILL", SIGKILL},
                                                                {"SIGUSR1", SIGUSR1},
                                                                {"SIGSEGV", SIGSEGV},
                                                                {"SIGUSR2", SIGUSR2},
                                                                {"SIGPIPE", SIGPIPE},
                                                                {"SIGALRM", SIGALRM},
                                                                {"SIGTERM", SIGTERM},
                                                                {"SIGSTOP", SIGSTOP},
                                                                {"SIGXCPU", SIGXCPU},
                                                                {"SIGXFSZ", SIGXFSZ},
                                                                {"SIGSYS", SIGSYS}}};

std::optional<int> to_number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0;
  for (size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + 1)
    parts.push_back(text.substr(begin, end - begin));
  parts.push_back(text.substr(begin));
  return parts;
}

[[noreturn]] void refuse_streams(const std::string& flag, const std::string& text) {
  fail_usage(
      "{}: found '{}', expected 0 (none), 1 (standard output), 2 (standard error) or 3 (both) for all ranks, "
      "or a list of LOCAL_RANK:STREAMS such as 0:3,1:2",
      flag, text);
}

}  // namespace

unsigned StreamChoice::of(int local_rank) const {
  const auto found = by_rank.find(local_rank);
  return found == by_rank.end() ? all : found->second;
}

bool StreamChoice::any() const {
  return all != 0 || std::any_of(by_rank.begin(), by_rank.end(), [](const auto& e) { return e.second != 0; });
}

NodeRange parse_nodes(const std::string& text) {
  const std::vector<std::string> parts = split(text, ':');
  const std::optional<int> least = to_number(parts.front()), most = to_number(parts.back());
  if (parts.size() > 2 || !least || !most || *least < 1 || *most < *least)
    fail_usage("--nnodes: found '{}', expected a number of nodes such as 2, or MIN:MAX such as 1:4", text);
  return {*least, *most};
}

StreamChoice parse_streams(const std::string& flag, const std::string& text) {
  StreamChoice choice;
  const auto streams = [&](const std::string& word) {
    const std::optional<int> value = to_number(word);
    if (!value || *value < 0 || *value > 3) refuse_streams(flag, text);
    return static_cast<unsigned>(*value);
  };
  if (text.find(':') == std::string::npos) {
    choice.all = streams(text);
    return choice;
  }
  for (const std::string& entry : split(text, ',')) {
    const std::vector<std::string> parts = split(entry, ':');
    const std::optional<int> rank = to_number(parts[0]);
    if (parts.size() != 2 || !rank || *rank < 0) refuse_streams(flag, text);
    choice.by_rank[*rank] = streams(parts[1]);
  }
  return choice;
}

std::set<int> parse_ranks(const std::string& flag, const std::string& text) {
  std::set<int> ranks;
  for (const std::string& word : split(text, ',')) {
    const std::optional<int> rank = to_number(word);
    if (!rank || *rank < 0)
      fail_usage("{}: found '{}', expected local ranks with commas between them, such as 0,2", flag, text);
    ranks.insert(*rank);
  }
  return ranks;
}

std::vector<int> parse_signals(const std::string& flag, const std::string& text) {
  std::vector<int> signals;
  for (const std::string& word : split(text, ',')) {
    const std::string name = word.starts_with("SIG") ? word : "SIG" + word;
    const auto* found = std::find_if(kSignals.begin(), kSignals.end(),
                                     [&](const auto& entry) { return entry.first == name; });
    if (found == kSignals.end() || found->second == SIGKILL || found->second == SIGSTOP)
      fail_usage("{}: found '{}', expected names such as SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2", flag,
                 word);
    signals.push_back(found->second);
  }
  return signals;
}

void parse_rendezvous(const std::string& text, Options& options) {
  const std::map<std::string, double*> known{{"join_timeout", &options.join_timeout},
                                             {"last_call_timeout", &options.last_call},
                                             {"keep_alive_timeout", &options.lost_after}};
  for (const std::string& entry : split(text, ',')) {
    const size_t equals = entry.find('=');
    const auto found = known.find(entry.substr(0, equals));
    char* end = nullptr;
    const double value = equals == std::string::npos ? -1 : std::strtod(entry.c_str() + equals + 1, &end);
    if (found == known.end() || !(value > 0) || *end != 0)
      fail_usage(
          "--rdzv-conf: found '{}', expected join_timeout, last_call_timeout or keep_alive_timeout, each "
          "=SECONDS",
          entry);
    *found->second = value;
  }
}

Endpoint parse_endpoint(const std::string& flag, const std::string& text, int default_port) {
  const auto refuse = [&] {
    fail_usage("{}: found '{}', expected HOST:PORT such as node0:29500, or [fe80::1]:29500", flag, text);
  };
  Endpoint endpoint{text, default_port};
  const size_t bracket = text.starts_with('[') ? text.find(']') : 0;
  if (bracket == std::string::npos) refuse();
  if (const size_t colon = text.find(':', bracket); colon != std::string::npos) {
    const std::optional<int> port = to_number(std::string_view(text).substr(colon + 1));
    if (!port || *port < 1 || *port > 65535) refuse();
    endpoint = {text.substr(0, colon), *port};
  }
  if (bracket > 0) endpoint.host = endpoint.host.substr(1, bracket - 1);
  if (endpoint.host.empty()) refuse();
  return endpoint;
}

void check(const Options& options) {
  const bool several = options.nodes.most > 1;
  const bool meets_at_endpoint = !options.rdzv_endpoint.empty();
  if (options.processes < 1)
    fail_usage("--nproc-per-node: found {}, expected at least 1 process", options.processes);
  if (options.master_port < 0 || options.master_port > 65535)
    fail_usage("--master-port: found {}, expected a port from 1 to 65535", options.master_port);
  if (options.max_restarts < 0)
    fail_usage("--max-restarts: found {}, expected 0 or more", options.max_restarts);
  if (options.monitor_interval < 0.001)
    fail_usage("--monitor-interval: found {}, expected seconds, at least 0.001", options.monitor_interval);
  if (options.grace_period < 0)
    fail_usage("--grace-period: found {}, expected seconds, 0 or more", options.grace_period);
  if (options.standalone && (several || meets_at_endpoint))
    fail_usage("--standalone is for one node: leave out --nnodes and --rdzv-endpoint, or --standalone");
  if (options.nodes.least != options.nodes.most && !meets_at_endpoint)
    fail_usage(
        "--nnodes {}:{} needs --rdzv-endpoint HOST:PORT, on one of the nodes: there the launchers meet "
        "again after a loss",
        options.nodes.least, options.nodes.most);
  if (several && !meets_at_endpoint && (options.node_rank < 0 || options.master_addr.empty()))
    fail_usage(
        "--nnodes {}: each of the nodes needs --node-rank (0 to {}) and --master-addr (the host of node 0), "
        "or all of them the same --rdzv-endpoint HOST:PORT",
        options.nodes.most, options.nodes.most - 1);
  if (options.node_rank >= options.nodes.most)
    fail_usage("--node-rank: found {}, expected 0 to {} with --nnodes {}", options.node_rank,
               options.nodes.most - 1, options.nodes.most);
  for (const auto& [flag, choice] : {std::pair("--redirects", &options.redirects), {"--tee", &options.tee}})
    for (const auto& [rank, streams] : choice->by_rank)
      if (rank >= options.processes)
        fail_usage("{}: there is no local rank {}, this node has 0 to {}", flag, rank, options.processes - 1);
  for (const int rank : options.shown_ranks)
    if (rank >= options.processes)
      fail_usage("--local-ranks-filter: there is no local rank {}, this node has 0 to {}", rank,
                 options.processes - 1);
}

std::string signal_name(int signal) {
  for (const auto& [name, number] : kSignals)
    if (number == signal) return name;
  return fmt::format("signal {}", signal);
}

}  // namespace polar::launch
