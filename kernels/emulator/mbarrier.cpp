#include "mbarrier.h"

#include <bit>

#include "report.h"
#include "sanitizers.h"
#include "shared_memory.h"
#include "worker.h"

namespace polar::emulator {
namespace {

// A copy may report its bytes before they are expected, so the count starts in the middle.
constexpr uint32_t kNoBytes = 1u << 30;

struct State {
  uint16_t pending = 0, arrivals = 0;
  uint32_t bytes : 31 = kNoBytes;
  uint32_t phase : 1 = 0;
};
static_assert(sizeof(State) == sizeof(uint64_t));

State load(const uint64_t* barrier) {
  return std::bit_cast<State>(*barrier);
}

void store(uint64_t* barrier, State state) {
  if (state.pending == 0 && state.bytes == kNoBytes) {  // the phase has ended
    state.phase ^= 1;
    state.pending = state.arrivals;
  }
  *barrier = std::bit_cast<uint64_t>(state);
}

// Where those who arrive in a phase and those who wait for it are ordered.
void* ordered_by(uint64_t* barrier, uint32_t phase) {
  return reinterpret_cast<char*>(barrier) + 4 * (phase & 1);
}

State load_checked(uint64_t* barrier, const char* what, std::source_location where) {
  shared_address(barrier, where);
  if (reinterpret_cast<uintptr_t>(barrier) % sizeof(uint64_t) != 0)
    fail("{} at {}: the barrier is not 8-byte aligned", what, place(where));
  const State state = load(barrier);
  constexpr uint16_t kPoison = 0xffff;
  if (state.arrivals == 0 || state.arrivals == kPoison)
    fail("{} at {}: the barrier has not been initialised", what, place(where));
  return state;
}

}  // namespace

void mbarrier_initialize(uint64_t* barrier, int arrivals, std::source_location where) {
  shared_address(barrier, where);
  if (arrivals <= 0 || arrivals > 1024) fail("mbarrier.init at {}: {} arrivals", place(where), arrivals);
  State state;
  state.pending = state.arrivals = static_cast<uint16_t>(arrivals);
  *barrier = std::bit_cast<uint64_t>(state);
}

void mbarrier_arrive_one(uint64_t* barrier, uint32_t expected_bytes, std::source_location where) {
  State state = load_checked(barrier, "mbarrier.arrive", where);
  if (state.pending == 0) fail("mbarrier.arrive at {}: more arrivals than the phase has", place(where));
  release(ordered_by(barrier, state.phase));
  state.bytes = (state.bytes + expected_bytes) & 0x7fffffffu;
  --state.pending;
  store(barrier, state);
}

void mbarrier_wait_phase(uint64_t* barrier, uint32_t parity, std::source_location where) {
  while (load_checked(barrier, "mbarrier.try_wait", where).phase == (parity & 1))
    poll("mbarrier.try_wait", where);
  acquire(ordered_by(barrier, parity));
}

void mbarrier_complete(uint64_t* barrier, uint32_t bytes) {
  State state = load(barrier);
  release(ordered_by(barrier, state.phase));
  state.bytes = (state.bytes - bytes) & 0x7fffffffu;
  store(barrier, state);
}

}  // namespace polar::emulator
