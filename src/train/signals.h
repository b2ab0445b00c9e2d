// SIGTERM, SIGINT, SIGHUP and SIGQUIT: the first one asks the training loop to save and stop, a second one
// ends the process at once. The same signal again within a second is the same request, come on two ways
// (Slurm sends to every process of a step, and its launcher passes on what it gets itself).
#pragma once

#include <array>
#include <csignal>

namespace polar {

// Installs the handlers while it lives; puts the old ones back unless a signal has come: then the process is
// about to end, and its exit code must not be that of a repetition. A SIGHUP that is ignored (nohup) stays
// so.
class SignalGuard {
 public:
  SignalGuard();
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  // The signal that has come, or 0.
  static int received();

 private:
  std::array<struct sigaction, 4> old_{};
};

}  // namespace polar
