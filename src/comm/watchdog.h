// Sees to it that no rank of a run waits for ever for one that hangs.
//
// Every second each rank leaves in the run's store where it is (Activity). From that every rank knows of all
// others when it was last seen, and where. An operation between the ranks has a timeout of its own; the
// watchdog finds what no operation waits for, and what an operation cannot say:
//   - a rank that gives no sign of life (stopped, swapped out, its machine gone), or shows no progress in a
//     phase that has a bound, for longer than the timeout;
//   - a store that does not answer for so long: the process that holds it hangs, or cannot be reached;
//   - a rank that does not end although the run has failed: blocked in the device, or in a read.
// It then says where all ranks were, and ends this process; so does the watchdog of every other rank.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "comm/activity.h"
#include "comm/rendezvous.h"
#include "comm/whereabouts.h"

namespace polar {

class Watchdog {
 public:
  // Begins to watch, on a thread and a connection of its own. The references must outlive it. `timeout`: what
  // the operations between the ranks have, which fail a little before the watchdog acts.
  Watchdog(Rendezvous& rendezvous, const ProcessGroup& group, std::chrono::milliseconds timeout,
           const Activity& activity);
  // This rank leaves: the others do not miss it.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // This rank gives up: tells the others, and from now on gives the process a while to end by itself.
  // Returns what is to be said: the cause, a failure of another rank that came before it, with that one's
  // code, and where all ranks are. From any thread; takes a few seconds at most.
  GroupFailure give_up(const std::string& cause, ExitCode code) noexcept;
  // The first failure of any rank that this one knows of.
  std::optional<GroupFailure> failure() const;

 private:
  using Clock = std::chrono::steady_clock;
  using Milliseconds = std::chrono::milliseconds;

  void run();
  void look();
  bool exchange();
  std::vector<Sighting> sightings() const;
  std::vector<Sighting> fetch(StoreClient& client) const;
  std::optional<std::string> hang() const;
  std::string report(const std::vector<Sighting>& ranks) const;
  std::string beat_key(int rank) const;
  [[noreturn]] void end_process(const GroupFailure& failure);

  Rendezvous& rendezvous_;
  const ProcessGroup group_;
  const Activity& activity_;
  const Milliseconds timeout_, interval_, patience_;  // patience: with a single answer of the store
  const double limit_, silence_;                      // s

  // Of the thread.
  std::optional<StoreClient> client_;
  Clock::time_point last_look_, answered_;
  int64_t looks_ = 0;
  int suspicions_ = 0;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<Sighting> last_seen_;
  Clock::time_point seen_;
  std::optional<GroupFailure> failure_;  // of whatever rank
  Clock::time_point failed_;
  bool gave_up_ = false;
  bool stop_ = false;
  std::thread thread_;  // last: it uses all the others
};

}  // namespace polar
