#include "fiber.h"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>

#include "report.h"
#include "sanitizers.h"
#ifdef EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#if defined(__x86_64__)
// Keeps what the calling convention says a function keeps, on the stack that it leaves; takes it from the
// other.
extern "C" void polar_emulator_switch(void** save, void* resume);
asm(R"(
.text
.globl polar_emulator_switch
.type polar_emulator_switch,@function
polar_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size polar_emulator_switch,.-polar_emulator_switch
)");
#endif

namespace polar::emulator {
namespace {

#ifdef EMULATOR_ASAN
constexpr size_t kStackBytes = size_t{512} << 10;  // red zones around every local array
#else
constexpr size_t kStackBytes = size_t{128} << 10;
#endif

#if defined(__x86_64__)
void* make_context(char* top, void (*entry)()) {
  auto** slot = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
  *--slot = nullptr;  // the return address of entry
  *--slot = reinterpret_cast<void*>(entry);
  constexpr int kSavedRegisters = 6;
  for (int i = 0; i < kSavedRegisters; ++i) *--slot = nullptr;
  return slot;
}
void change_context(Fiber& from, Fiber& to) {
  polar_emulator_switch(&from.context, to.context);
}
#else
// Four to five times slower (a system call a switch), but there on every architecture.
void* make_context(char* top, void (*entry)(), char* stack) {
  auto* context = new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = static_cast<size_t>(top - stack);
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
  return context;
}
void change_context(Fiber& from, Fiber& to) {
  if (from.context == nullptr) from.context = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(from.context), static_cast<ucontext_t*>(to.context));
}
#endif

// Frames that were left for ever keep their red zones in the sanitizer's books.
void forget_frames([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#ifdef EMULATOR_ASAN
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace

void switch_fiber(Fiber& from, Fiber& to) {
#ifdef EMULATOR_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
#endif
#ifdef EMULATOR_TSAN
  constexpr unsigned kNoSynchronisation = 1;
  __tsan_switch_to_fiber(to.race_detector, kNoSynchronisation);
#endif
  change_context(from, to);
#ifdef EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void fiber_entered([[maybe_unused]] Fiber& self) {
#ifdef EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(self.fake_stack, nullptr, nullptr);
#endif
}

void adopt_thread(Fiber& fiber) {
  if (fiber.stack != nullptr) return;
  pthread_attr_t attributes;
  void* stack = nullptr;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0 ||
      pthread_attr_getstack(&attributes, &stack, &fiber.stack_bytes) != 0)
    fail("the bounds of this thread's stack are not known");
  pthread_attr_destroy(&attributes);
  fiber.stack = stack;
#ifdef EMULATOR_TSAN
  fiber.race_detector = __tsan_get_current_fiber();
#endif
}

FiberStacks::~FiberStacks() {
  free_all();
}

void FiberStacks::free_all() {
  if (memory_ == nullptr) return;
  forget_frames(memory_, bytes_);
  munmap(memory_, bytes_);
  memory_ = nullptr;
}

void FiberStacks::allocate(size_t count) {
  free_all();
  bytes_ = kStackBytes * count;
  void* memory =
      mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail("no address space for the stacks of {} threads", count);
  memory_ = static_cast<char*>(memory);
  forget_frames(memory_, bytes_);
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  for (size_t i = 0; i < count; ++i) mprotect(memory_ + i * kStackBytes, page, PROT_NONE);
}

void FiberStacks::prepare(Fiber& fiber, size_t index, void (*entry)()) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  char* stack = memory_ + index * kStackBytes + page;
  fiber.stack = stack;
  fiber.stack_bytes = kStackBytes - page;
  // The tops are staggered, or the hot ends of all stacks would fall into the same few sets of the cache.
  constexpr size_t kStagger = 832, kSpan = 16384;
  char* top = stack + fiber.stack_bytes - (index * kStagger) % kSpan / 64 * 64;
#if defined(__x86_64__)
  fiber.context = make_context(top, entry);
#else
  fiber.context = make_context(top, entry, stack);
#endif
}

}  // namespace polar::emulator
