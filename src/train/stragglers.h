// Slow ranks: all of a step wait for the slowest, and nothing else tells which it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace polar {

// What a step takes a rank itself is its time less the time in which the rank waits for others.
struct SlowestRank {
  int rank = 0;
  double seconds = 0.0;         // a step of its own
  double median_seconds = 0.0;  // of all ranks (of two: the faster one's)
  double share = 0.0;           // of a step's time that the group waits for it
  double wait_share = 0.0;  // of its time in which this rank waits for what travels, or for whoever sends it
};

class Stragglers {
 public:
  // Of a run that goes on after `step` steps. All ranks make it, and make the same calls. `share`: from which
  // rank 0 logs a slow rank. `comm` must outlive it.
  Stragglers(Communicator& comm, int64_t step, double share);

  // What lies between is no part of a step (evaluation, saving).
  void pause();
  void resume();
  // Paused, after the same step on all ranks: compares the steps since the last answer. Nothing if those were
  // too few or too short to say anything (less than a second).
  std::optional<SlowestRank> look(int64_t step);

 private:
  using Clock = std::chrono::steady_clock;
  void log(const SlowestRank& slowest);

  Communicator& comm_;
  const double share_;
  std::vector<std::string> hosts_;
  Clock::time_point resumed_;
  double resumed_waits_;                // what the communicator had then
  double seconds_ = 0.0, waits_ = 0.0;  // since the last answer
  int64_t step_;
  int logged_rank_ = -1;
  Clock::time_point logged_;
};

// From what a step took each rank itself, and the time of a step.
SlowestRank slowest_of(const std::vector<double>& seconds, double step_seconds);

}  // namespace polar
