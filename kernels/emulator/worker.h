// A worker runs blocks, one after the other, on one operating-system thread. Its run list is a stack: a warp
// goes as far as it can before another one starts, which is fast and lets threads run ahead as far as CUDA
// allows.
#pragma once

#include <array>
#include <memory>
#include <random>
#include <vector>

#include "tensor_copy.h"
#include "thread.h"

namespace polar::emulator {

// Where the lanes of a warp (or the threads of a warpgroup) meet: the last one to arrive does the work for
// all.
using Collective = void (*)(uint32_t mask, void** arguments);
struct Meeting {
  uint32_t mask = 0, arrived = 0, generation = 0;
  Collective work = nullptr;
  std::array<void*, 32> arguments{};
};
constexpr int kMeetings = 4;  // under way at once in a warp, with different masks

struct NamedBarrier {
  int arrived = 0;
  int expected = 0;  // negative: all threads of the block
  int votes = 0, result = 0;
  uint32_t generation = 0;
  const char* name = nullptr;
  std::source_location where;
  std::vector<Thread*> waiting;
};
constexpr int kBarriers = 16;

struct StaticShared {
  const void* key = nullptr;  // which declaration
  unsigned char* memory = nullptr;
  size_t bytes = 0;
};

// A wgmma of one warp: its 16 rows.
struct ProductOperands {
  uint64_t a = 0, b = 0;  // descriptors
  bool a_in_registers = false, a_transposed = false, b_transposed = false, accumulate = false;
  uint32_t columns = 0, first_row = 0;
};
struct WarpProduct {
  ProductOperands operands;
  int group = 0;
  float* d[32] = {};                 // by lane, its accumulators
  float* const* scattered[32] = {};  // or where each of them is
  uint32_t a_registers[32][4] = {};
};
constexpr int kMaximumProducts = 64;  // under way at once in a warp
struct WarpProducts {
  std::vector<WarpProduct> queued;  // kMaximumProducts once one was issued
  int count = 0, group = 0;
  bool fenced = false;
};

// Addresses that stand for "ordered by": two take turns, or a thread that wakes up late from one barrier
// would also be ordered after those that have reached the next one.
struct OrderedBy {
  char kernel_start = 0, kernel_end = 0, block_start = 0, shared_freed = 0;
  char internal = 0, internal_end = 0;
  char barrier[kBarriers][2] = {};
};
struct WarpOrderedBy {
  char meeting[kMeetings][2] = {};
};

struct Worker {
  // The threads of the running block, a part of `all_threads`.
  Thread* threads = nullptr;
  uint32_t thread_count = 0, alive = 0;
  Block block;
  std::vector<Thread*> starting;
  std::vector<Thread*> runnable;  // a stack
  std::vector<Thread*> spinning;  // they poll a barrier in memory; tried again when nothing else can run
  uint32_t fruitless_rounds = 0;
  std::vector<std::array<Meeting, kMeetings>> meetings;  // by warp
  std::array<NamedBarrier, kBarriers> barriers;
  std::vector<StaticShared> static_shared;
  std::vector<TensorCopy> tensor_copies;  // started and not done yet
  std::vector<WarpProducts> products;     // by warp
  uint64_t block_serial = 0;              // of all blocks this worker has run
  std::mt19937 random;
  OrderedBy ordered_by;
  std::vector<WarpOrderedBy> warp_ordered_by;

  std::vector<Thread> all_threads;
  std::vector<AsyncCopy> async_copies;
  FiberStacks stacks;
  uint32_t capacity = 0;              // threads of a block
  Fiber host;                         // what started the worker
  std::array<void*, 3> identities{};  // of the thread sanitizer, by Identity
};

// Runs all blocks of a grid and returns when they are done.
void run_grid(const Grid& grid);

// --- for collectives and barriers ---
// Lets other threads run until something wakes the current one.
void wait_for_others(Thread& self, const char* what, std::source_location where, uint32_t mask = 0);
// The same, but it is tried again by itself: for polling.
void poll(const char* what, std::source_location where);
// Makes threads runnable, in the order of the options.
void wake(Worker& worker, Thread** threads, size_t count);
// In random order, a thread that has released others may be overtaken by them.
bool may_be_overtaken();
// For the time of a scope, the thread sanitizer sees accesses as those of one of the engine's identities:
//  * internal: bookkeeping on behalf of a CUDA thread. It is ordered after all threads that have called, and
//  none
//    of them after it, so that neither does the engine's use of the heap look like a race, nor is one hidden.
//  * janitor: frees shared memory, after everything that the block did.
//  * tensor_engine: a copy of the TMA engine, ordered by its barrier alone.
enum class Identity : uint8_t { internal, janitor, tensor_engine };
class EngineIdentity {
 public:
  EngineIdentity(Worker& worker, Identity identity);
  EngineIdentity(const EngineIdentity&) = delete;
  EngineIdentity& operator=(const EngineIdentity&) = delete;
  ~EngineIdentity();

 private:
  void* previous_ = nullptr;
  void* done_ = nullptr;
};

}  // namespace polar::emulator
