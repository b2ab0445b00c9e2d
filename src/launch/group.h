// The workers of this node during one attempt: started together, watched, and ended together.
#pragma once

#include <chrono>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "launch/worker.h"

namespace polar::launch {

// What wakes the launcher up; all for poll.
struct Events {
  int children = -1;  // a signalfd of SIGCHLD
  int control = -1;   // every byte is a signal that the run shall end with; its end: kill everything at once
  int news = -1;      // an eventfd: the other nodes' launchers want this attempt to be stopped
};

// Signal numbers read from events.control: empty if none has come, 0 for its end.
std::optional<int> read_control(const Events& events);

// A worker that ended otherwise than with exit code 0, before anybody told it to end.
struct Failure {
  std::string worker;  // its rank, local rank, node, host and pid, in words
  int status = 0;      // of waitpid
  std::vector<std::string> tail;
};

enum class Ending {
  succeeded,  // all workers with exit code 0
  failed,     // the others were stopped after a failure
  signalled,  // a signal was passed on to the workers
  recalled,   // news from the other nodes
  abandoned,  // the launcher's outer process is gone
};

struct Outcome {
  Ending ending = Ending::succeeded;
  int code = 0;  // the launcher's exit code, if this was the end
  std::optional<Failure> failure;
};

class WorkerGroup {
 public:
  // `program`: of find_program.
  WorkerGroup(const Options& options, const Assignment& assignment, const std::string& program,
              Console& console, const Events& events);
  // Starts all workers and returns when none is left, nor any process that they have started.
  // Errors: a worker cannot be started, or a process does not even end by SIGKILL.
  Outcome run();

 private:
  using Clock = std::chrono::steady_clock;

  void start();
  void watch();
  void wait_for_events();
  void after_control();
  void after_news();
  void reap();
  void note_failure(std::list<Worker>::iterator first);
  void signal_workers(int signal) const;
  // The workers have until the deadline from now on; a later call leaves the deadline as it is.
  void begin_to_stop(int signal);
  void after_deadline();
  void end_leftovers();
  int running() const;
  int code_after_signal() const;

  const Options& options_;
  const Assignment& assignment_;
  const std::string& program_;
  Console& console_;
  const Events& events_;
  std::list<Worker> workers_;
  Outcome outcome_;
  int passed_signal_ = 0;
  std::optional<Clock::time_point> deadline_;
  bool killed_ = false;
};

}  // namespace polar::launch
