// Warpgroup matrix products. Each warp does its own 16 of the 64 rows, when it waits for them: what reads the
// accumulators before sees them as they were.
#pragma once

#include <cstdint>
#include <source_location>

namespace polar::emulator {

// d (64, columns): columns / 2 accumulators of this thread. a: a descriptor, or with a_registers those
// instead. Transposed: not k is contiguous, but the index of the result.
void wgmma(float* d, int columns, uint64_t a, const uint32_t* a_registers, uint64_t b, bool a_transposed,
           bool b_transposed, bool accumulate, std::source_location where);
// The same with accumulators in places of their own; the array has to stay until the wait.
void wgmma_scattered(float* const* d, int columns, uint64_t a, const uint32_t* a_registers, uint64_t b,
                     bool a_transposed, bool b_transposed, bool accumulate, std::source_location where);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait_groups(int pending);

// For the scheduler: the warp's products that nobody has waited for.
struct Worker;
void reset_wgmma(Worker& worker);

}  // namespace polar::emulator
