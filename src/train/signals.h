// SIGTERM and SIGINT: the first one asks the training loop to save and stop, a second one ends the process at
// once.
#pragma once

namespace polar {

// Installs the handlers while it lives; puts the old ones back.
class SignalGuard {
 public:
  SignalGuard();
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;
  SignalGuard& operator=(const SignalGuard&) = delete;
  // The signal that has come, or 0.
  static int received();
};

}  // namespace polar
