// cp.async: the data land at the wait that covers them, the latest moment CUDA allows, so that a missing or
// too weak wait reads what was there before: NaN, since the destination is poisoned when the copy starts.
#pragma once

#include <cstdint>
#include <source_location>

namespace polar::emulator {

// Reads only the first valid_bytes and zeroes the rest.
void start_async_copy(void* to, const void* from, uint32_t bytes, uint32_t valid_bytes,
                      std::source_location where);
void commit_async_copies();
void wait_async_copies(int pending_groups);

}  // namespace polar::emulator
