// How long a stream has waited for events of others, measured by the device itself.
#pragma once

#include <deque>

#include "backend/cuda/runtime.h"

namespace polar::cuda {

// For one thread. Asks the device only for what is done, and waits for nothing.
class WaitMeter {
 public:
  // Work queued on `stream` from now on waits for `event`; how long, is measured. In a graph, whose waits are
  // the same events again and again, it is not.
  void hold(const Stream& stream, const Event& event);
  // Of the waits that are over.
  double seconds();

 private:
  struct Span {
    Event before{EventKind::timing}, after{EventKind::timing};
  };
  void collect();

  std::deque<Span> open_, free_;  // in the order in which they were queued
  double seconds_ = 0.0;
};

}  // namespace polar::cuda
