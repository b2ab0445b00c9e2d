// What a rank is at: told by the training loop and by the communicator, read by its watchdog.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace polar {

// May be used by several threads; telling costs a lock and no memory of its own.
class Activity {
 public:
  // Who carries an operation out. All ranks have the same operations in the same order in each of them.
  enum class Lane : uint8_t { host, device };
  static constexpr size_t kLanes = 2;
  // Whether a phase that lasts for longer than the timeout without any progress is taken for a hang. Without
  // a bound it is one only for the ranks that wait for this one.
  enum class Bound : uint8_t { timeout, none };

  struct Operation {
    uint64_t begun = 0, done = 0;  // numbers, from 1
    std::string name;              // of the one begun last
    double age = 0.0;              // s since it was begun; since it was done, if it was
    bool waits() const { return begun > done; }
  };
  struct State {
    int64_t step = 0;  // 0: before the first or after the last
    std::string phase = "start";
    Bound bound = Bound::none;
    double phase_age = 0.0, progress_age = 0.0;  // s
    std::array<Operation, kLanes> operations;
  };

  // The host is at `phase`, a literal, of this step from now on.
  void at(int64_t step, const char* phase, Bound bound = Bound::timeout);
  // Within the phase something was done.
  void moved();
  void begin(Lane lane, uint64_t number, std::string_view name);
  void end(Lane lane, uint64_t number);
  State state() const;

 private:
  using Clock = std::chrono::steady_clock;
  struct Entry {
    uint64_t begun = 0, done = 0;
    std::string name;
    Clock::time_point since = Clock::now();
  };
  Entry& entry(Lane lane) { return entries_[static_cast<size_t>(lane)]; }

  mutable std::mutex mutex_;
  int64_t step_ = 0;
  const char* phase_ = "start";
  Bound bound_ = Bound::none;
  Clock::time_point phase_since_ = Clock::now(), progress_ = phase_since_;
  std::array<Entry, kLanes> entries_;
};

// As bytes, for the store; nothing if they are no state.
std::string encode(const Activity::State& state);
std::optional<Activity::State> decode_activity(std::string_view bytes);

}  // namespace polar
