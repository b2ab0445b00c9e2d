// Where the launchers of several nodes meet: a store (comm/store.h) that one of them holds. In it they agree
// who takes part in a round, that is, one common attempt of all workers, tell each other that they are alive,
// and how the round ended.
//
//   settings                 --nnodes and --max-restarts, the same on all nodes
//   round                    number of the current round
//   failures                 restarts that were used up
//   round/N/node/I           the I-th launcher that wants to take part, and what the others must know of it
//   round/N/rank/K           whose --node-rank K is
//   round/N/closed           those that do, in the order of their ranks; written once
//   round/N/beat/I           changes while that launcher is alive
//   round/N/succeeded/I      all its workers have ended with exit code 0
//   round/N/verdict          how the round ended and what comes next; written once
//   round/N/left/I           that launcher needs the store no more
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/store.h"
#include "launch/group.h"

namespace polar::launch {

// One launcher as the others know it.
struct Member {
  int index = 0;       // its key in the round
  int node_rank = -1;  // --node-rank, or -1
  bool holds_store = false;
  int processes = 1;
  int master_port = 0;  // free on its machine
  std::string address, host;
};

// The end of a round, the same for all nodes.
struct Verdict {
  enum class Next { restart, end, done };
  Next next = Next::end;
  int code = -1;      // exit code of all launchers; -1: each that of its own workers
  int remaining = 0;  // launchers that will take part in the next round, if there is one
  bool lost = false;  // one of the others is gone without a word
  std::string text;   // the reason, for people; several lines
};

// Looks after a round from a thread of its own: gives signs of life, misses those of the others, and sees the
// verdict. Its descriptor becomes readable when there is one.
class RoundWatch {
 public:
  RoundWatch(const Options& options, StoreClient& store, int round, int self, std::vector<Member> members);
  ~RoundWatch();
  RoundWatch(const RoundWatch&) = delete;
  RoundWatch& operator=(const RoundWatch&) = delete;

  int descriptor() const { return news_.number(); }
  // The last signs of life of the other launchers; all_heard: whether each has given another since.
  std::vector<std::string> beats_of_others() const;
  bool all_heard(const std::vector<std::string>& before) const;
  // All workers of this node have succeeded; when those of all nodes have, the verdict is `done`.
  void succeeded() { succeeded_ = true; }
  // A node that will not take part in the next round: none, this one after a signal, or another that is
  // silent.
  enum class Gone { none, stopped, lost };
  // Proposes an end; the first proposal of all nodes stands, and is returned. `can_restart`: a restart is of
  // use.
  Verdict conclude(bool can_restart, Gone gone, int code, const std::string& text);
  // Once the descriptor is readable.
  Verdict verdict() const {
    const std::lock_guard lock(mutex_);
    return verdict_;
  }

 private:
  struct Beat {
    std::string value;
    std::chrono::steady_clock::time_point changed;
  };

  void run();
  std::string beat_of(const Member& member) const;
  bool look(bool beat_now);
  void check_beats();
  void check_success();
  void finish(Verdict verdict);

  const Options& options_;
  StoreClient& store_;
  const std::string prefix_;
  const int round_, self_;
  const std::vector<Member> members_;
  Descriptor news_, stop_;
  std::vector<Beat> beats_;
  int64_t beat_ = 0;
  bool told_success_ = false;
  std::atomic<bool> succeeded_ = false;
  mutable std::mutex mutex_;
  Verdict verdict_;  // guarded by it
  std::thread thread_;
};

class Meeting {
 public:
  Meeting(const Options& options, Console& console, const Events& events);
  ~Meeting();

  // Takes part in the next round: returns once its members are known and this node is one of them. Nothing: a
  // signal came, or the run has ended meanwhile; code() says with which exit code. Errors: not enough nodes
  // in time, settings that differ, a store that cannot be reached.
  std::optional<Assignment> join();
  int code() const { return code_; }
  bool holds_store() const { return server_ != nullptr; }
  // Of the round joined last.
  std::unique_ptr<RoundWatch> watch();
  // After the last round: the one that holds the store waits until the others need it no more.
  void leave(const Verdict& verdict);

 private:
  void connect();
  void compare_settings();
  void announce();
  void withdraw();  // what announce() has written
  std::string rank_key() const;
  void claim_rank();  // --node-rank is this launcher's alone
  std::optional<Assignment> wait_for_members();
  std::vector<Member> candidates();
  void close_if_complete();
  std::optional<Assignment> place(const std::vector<Member>& members);
  // True if the round is over already; then there is a next one, or code_ is set and over_ true.
  bool round_is_over();
  // Waits one monitor interval; true if a signal came instead.
  bool signalled();
  std::string waiting_text(size_t came) const;

  const Options& options_;
  Console& console_;
  const Events& events_;
  const Endpoint endpoint_;
  const std::string run_id_;
  std::unique_ptr<StoreServer> server_;
  std::unique_ptr<StoreClient> store_;
  int round_ = -1, self_ = -1;
  std::vector<Member> members_;
  std::optional<size_t> expected_;  // launchers that are likely to join
  std::optional<std::chrono::steady_clock::time_point> enough_since_;
  bool over_ = false, late_ = false;
  int code_ = 0;
};

// As they stand in the store.
std::string to_text(const std::vector<Member>& members);
std::vector<Member> members_from(const std::string& text);
std::string to_text(const Verdict& verdict);
Verdict verdict_from(const std::string& text);

}  // namespace polar::launch
