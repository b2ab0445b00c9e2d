// What the address and the thread sanitizer have to be told about fibers and about who orders whom.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define EMULATOR_ASAN 1
#endif

// The engine itself is never compiled with -fsanitize=thread: only the kernels are, and the engine tells the
// sanitizer what orders their accesses. EMULATOR_TSAN says that the program is linked with it.
#ifdef EMULATOR_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_set_fiber_name(void* fiber, const char* name);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, unsigned long bytes);
void __tsan_write_range(void* address, unsigned long bytes);
}
#endif

namespace polar::emulator {

// Happens-before: what a thread did before it released an address is ordered before what another one does
// after it has acquired the same address.
inline void acquire([[maybe_unused]] void* address) {
#ifdef EMULATOR_TSAN
  __tsan_acquire(address);
#endif
}
inline void release([[maybe_unused]] void* address) {
#ifdef EMULATOR_TSAN
  __tsan_release(address);
#endif
}
// What the engine, which is not instrumented, reads and writes in the name of the running thread.
inline void note_read([[maybe_unused]] const void* address, [[maybe_unused]] unsigned long bytes) {
#ifdef EMULATOR_TSAN
  __tsan_read_range(const_cast<void*>(address), bytes);
#endif
}
inline void note_write([[maybe_unused]] void* address, [[maybe_unused]] unsigned long bytes) {
#ifdef EMULATOR_TSAN
  __tsan_write_range(address, bytes);
#endif
}

}  // namespace polar::emulator
