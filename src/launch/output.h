// The workers' output on its way to the launcher's own: cut into whole lines, queued, never interleaved.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace polar::launch {

// Cuts bytes into lines. A progress display, which returns to the start of its line with '\r', becomes a line
// at most once a second, and its last state always does.
class LineSplitter {
 public:
  using Emit = std::function<void(std::string_view line)>;  // without its line end
  void add(std::string_view bytes, const Emit& emit);
  // The stream has ended: what stands without a line end is a line too.
  void finish(const Emit& emit);

 private:
  void end_of_line(const Emit& emit);
  void return_to_start(const Emit& emit);
  void append(std::string_view text, const Emit& emit);

  std::string line_;
  std::string progress_;     // the last state of a progress display, not shown yet
  bool just_shown_ = false;  // that state was shown and nothing has come since
  std::chrono::steady_clock::time_point last_progress_{};
};

// Standard output and standard error of the launcher. Lines are queued, and written where that does not
// block: a reader that has stopped reading must not keep the launcher from its other duties.
class Console {
 public:
  // Queues one line for STDOUT_FILENO or STDERR_FILENO.
  void line(int descriptor, std::string_view prefix, std::string_view text);
  // A line of the launcher's own, to standard error.
  void say(std::string_view text) { line(2, "[launch] ", text); }

  // The descriptor that has to become writable for write(), -1 if nothing is queued.
  int waiting_for() const { return queue_.empty() ? -1 : queue_.front().first; }
  // So much is queued that no more should be read from the workers.
  bool full() const { return bytes_ > 1 << 20; }
  // Writes what goes without blocking. A reader that is gone costs its lines, nothing else.
  void write();
  // Writes what is queued, for at most `seconds`.
  void finish(double seconds);

 private:
  bool ready() const;
  void drop_front(size_t bytes);

  std::deque<std::pair<int, std::string>> queue_;
  size_t bytes_ = 0;
};

}  // namespace polar::launch
