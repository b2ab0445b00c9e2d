// Marks of the CUDA backend: events.
#pragma once

#include "backend/cuda/contract.h"
#include "backend/cuda/runtime.h"
#include "ops/ops.h"

namespace polar::cuda {

// An event that was never recorded counts as done, as a mark that was never set does.
class EventMark : public Mark {
 public:
  bool reached() const override { return event.done(); }
  void wait() const override { event.synchronize(); }
  // Work queued on `stream` from now on waits for the mark.
  virtual void hold(const Stream& stream) const { stream.wait(event.get()); }
  Event event;
};

inline const EventMark& as_event_mark(const Mark& mark) {
  const auto* made = dynamic_cast<const EventMark*>(&mark);
  require(made != nullptr, "a mark of another backend");
  return *made;
}
inline const Event& event_of(const Mark& mark) {
  return as_event_mark(mark).event;
}

}  // namespace polar::cuda
