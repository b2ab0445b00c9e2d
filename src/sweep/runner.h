// Runs a sweep: every run a process of its own, several at a time, so that the crash of one is an entry in a
// table.
#pragma once

#include <filesystem>
#include <string>

#include "base/error.h"
#include "sweep/definition.h"
#include "sweep/results.h"

namespace polar::sweep {

struct RunnerOptions {
  std::filesystem::path directory;
  std::string binary;   // whose subcommand `train` is started
  std::string program;  // version and commit, kept with every run
  int jobs = 1;         // runs at a time
  int threads = 0;      // of each; 0: the cores divided among the jobs
  bool extend = false;  // values and seeds may be added
};

// The exclusive lock on a sweep's directory. Runs inherit it: it is free only when the last of them has
// ended, too.
class SweepLock {
 public:
  // Makes the directory. Throws Error: exit code 2 if another process holds the lock, 1 from the file system.
  explicit SweepLock(const std::filesystem::path& sweep);
  ~SweepLock();
  SweepLock(const SweepLock&) = delete;
  SweepLock& operator=(const SweepLock&) = delete;

 private:
  int descriptor_ = -1;
};

struct Outcome {
  Results results;
  // done: every run is done or has diverged; stopped_by_signal: a signal came, the runs have saved; failed:
  // some run has failed.
  ExitCode code = ExitCode::done;
};

// Goes on where an earlier call was cut: runs that are done or have diverged are not run again.
// DIR/sweep.json is written anew after every run. The first SIGTERM, SIGINT, SIGHUP or SIGQUIT is passed on
// to the runs, which save; a second kills them. Errors (exit code 2): the directory is locked, or holds
// another sweep (the differences are named).
Outcome run(const Definition& definition, const RunnerOptions& options);

}  // namespace polar::sweep
