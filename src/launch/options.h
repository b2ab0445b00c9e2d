// What `polartrain launch` is asked to do, and how the texts of its flags are read (torchrun's forms).
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace polar::launch {

// Output streams of a worker, as a set of bits: torchrun's 1, 2 and 3 (both).
enum Stream : unsigned { kStdout = 1, kStderr = 2 };

// Which streams of which local ranks something is done with.
struct StreamChoice {
  unsigned all = 0;                 // of the ranks that are not named
  std::map<int, unsigned> by_rank;  // of those that are
  unsigned of(int local_rank) const;
  bool any() const;
};

struct NodeRange {
  int least = 1, most = 1;
};

struct Options {
  NodeRange nodes;
  int processes = 1;          // on this node
  int node_rank = -1;         // -1: not said
  std::string master_addr;    // empty: not said
  int master_port = 0;        // 0: not said
  bool standalone = false;    // one node, a free port, a random run id
  std::string rdzv_endpoint;  // host:port of the launchers' store; empty: MASTER_ADDR:MASTER_PORT
  std::string rdzv_id;        // empty: not said
  std::string local_addr;     // what the other nodes reach this one by; empty: found out
  double join_timeout = 600;  // s, until at least nodes.least have come
  double last_call = 30;      // s, that more than nodes.least are waited for
  double lost_after = 15;     // s without a sign of life after which a node counts as lost
  int max_restarts = 0;
  double monitor_interval = 0.1;     // s, between two looks at the launchers' store
  double grace_period = 30;          // s, from the signal to SIGKILL
  std::filesystem::path log_dir;     // empty: none
  StreamChoice redirects;            // into files only
  StreamChoice tee;                  // into files and to the console
  std::set<int> shown_ranks;         // local ranks whose output is shown; empty: all
  std::vector<int> signals;          // that end the run
  std::vector<std::string> command;  // the program and its arguments
  // The program is this binary: its exit codes 2, 3 and 4 mean that a restart would end the same way.
  bool own_binary = false;
};

// Each throws Error (exit code 2) that names the flag, what was found and what is expected.
NodeRange parse_nodes(const std::string& text);                                    // "2", "1:4"
StreamChoice parse_streams(const std::string& flag, const std::string& text);      // "3", "0:1,2:3"
std::set<int> parse_ranks(const std::string& flag, const std::string& text);       // "0,2"
std::vector<int> parse_signals(const std::string& flag, const std::string& text);  // "SIGTERM,SIGINT"

// torchrun's "key=value,...": join_timeout, last_call_timeout and keep_alive_timeout, in seconds.
void parse_rendezvous(const std::string& text, Options& options);

struct Endpoint {
  std::string host;
  int port;
};
Endpoint parse_endpoint(const std::string& flag, const std::string& text, int default_port);  // "a:29500"

// What does not fit together, for instance several nodes and nothing that says where they meet.
void check(const Options& options);

// "SIGTERM"; "signal 40" for one without a name.
std::string signal_name(int signal);

}  // namespace polar::launch
