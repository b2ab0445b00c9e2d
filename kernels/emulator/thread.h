// What a CUDA thread knows of itself: this much of the engine is visible to kernels.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "fiber.h"

namespace polar::emulator {

struct Worker;

// A launched grid: its shape and how one thread runs the kernel.
struct Grid {
  dim3 grid, block;
  size_t shared_bytes = 0;           // dynamic
  bool shared_limit_raised = false;  // cudaFuncSetAttribute has allowed more than 48 KB
  void (*run)(const void* arguments) = nullptr;
  const void* arguments = nullptr;
  std::source_location where;
};

struct Block {
  uint3 index{};
  const Grid* grid = nullptr;
  unsigned char* dynamic_shared = nullptr;
};

// A cp.async that was started and whose data have not landed.
struct AsyncCopy {
  void* to = nullptr;
  const void* from = nullptr;
  uint32_t bytes = 0, valid_bytes = 0;  // the rest of `bytes` is zeroed
  int group = 0;
};
constexpr int kMaximumAsyncCopies = 128;  // under way at once in one thread

struct Thread {
  Fiber fiber;
  uint3 index{};
  uint32_t linear = 0, lane = 0, warp = 0;
  const Block* block = nullptr;
  Worker* worker = nullptr;
  bool exited = false;
  // Where it waits, for the report of a dead-lock.
  const char* waits_for = nullptr;
  std::source_location where;
  uint32_t wait_mask = 0;
  // cp.async. The array is the worker's.
  AsyncCopy* copies = nullptr;
  int copy_count = 0, copy_group = 0;
};

// The CUDA thread that this operating-system thread is just running; null outside of kernels.
extern constinit thread_local Thread* current_thread;

}  // namespace polar::emulator
