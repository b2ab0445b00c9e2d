// What is known of where the ranks of a run are, in words: who is behind, where, and for how long.
#pragma once

#include <string>
#include <vector>

#include "comm/activity.h"

namespace polar {

// A rank as it was last seen.
struct Sighting {
  int rank = 0;
  std::string name;            // "rank 3 (gpu07, process 1234)"
  double silent = 0.0;         // s since it was seen
  Activity::State state = {};  // then
};

// Those the others wait for, as indices of `ranks`: who has been silent for longer than `silence` seconds;
// else who has not begun the operation that another rank has waited in for longest; else who has shown no
// progress for `stalled` seconds. Empty: none is further behind than the others.
std::vector<size_t> find_behind(const std::vector<Sighting>& ranks, double silence, double stalled);

// "no sign of life for 12.3 s; last seen in step 12, forward and backward, for 0.4 s, after operation 120,
// all-reduce (loss)"
std::string whereabouts(const Sighting& rank, double silence);

// A line for those behind, and one for all of the others that are at the same place, each beginning with "\n
// ".
std::string whereabouts(const std::vector<Sighting>& ranks, double silence, double stalled);

}  // namespace polar
