// The shared memory of the running block. Every array is a heap block of its own of exactly its size (the
// address sanitizer sees an overrun), filled with 0xFF: NaN in f32 and bf16, so that what was not written
// shows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "thread.h"

namespace polar::emulator {

constexpr size_t kDefaultSharedBytes = size_t{48} << 10;
constexpr size_t kMaximumSharedBytes = size_t{227} << 10;

// The static array that `key` (an address unique to its declaration) stands for, the same for all threads of
// the block.
void* static_shared(const void* key, size_t bytes, size_t alignment);
unsigned char* dynamic_shared(std::source_location where = std::source_location::current());

// 32-bit shared addresses, as PTX uses them: dynamic memory from kDynamicWindow on, then a window a static
// array.
uint32_t shared_address(const void* pointer, std::source_location where = std::source_location::current());
unsigned char* shared_pointer(uint32_t address);
constexpr uint32_t kDynamicWindow = 1024;

// For the scheduler.
void allocate_dynamic_shared(Worker& worker);
void free_shared(Worker& worker);

}  // namespace polar::emulator
