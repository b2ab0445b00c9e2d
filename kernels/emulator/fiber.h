// Fibers: stacks of their own between which one operating-system thread switches by hand. Each CUDA thread is
// one.
#pragma once

#include <cstddef>
#include <vector>

namespace polar::emulator {

struct Fiber {
  void* context = nullptr;  // where it goes on
  const void* stack = nullptr;
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;     // the address sanitizer's
  void* race_detector = nullptr;  // the thread sanitizer's name for this fiber
};

// Goes on in `to`; returns when something switches back to `from`.
void switch_fiber(Fiber& from, Fiber& to);
// The first thing that a fiber's entry calls.
void fiber_entered(Fiber& self);
// Makes `fiber` stand for the calling operating-system thread.
void adopt_thread(Fiber& fiber);

// The stacks of `count` fibers, each with a guard page below.
class FiberStacks {
 public:
  FiberStacks() = default;
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;
  ~FiberStacks();
  void allocate(size_t count);
  // Lets `fiber` start at entry() on stack `index` when it is switched to first. entry never returns.
  void prepare(Fiber& fiber, size_t index, void (*entry)());

 private:
  void free_all();
  char* memory_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace polar::emulator
