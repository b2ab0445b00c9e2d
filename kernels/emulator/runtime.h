// The replacement of the CUDA runtime library: what its calls share. The calls themselves have CUDA's names
// and are linked instead of libcudart (runtime_*.cpp).
//
// A stream is a queue of operations. An operation may have to wait for a number of operations of other
// streams: that is what events are. Eager streams (the default) do an operation as soon as it is queued; lazy
// ones (EMULATOR_LAZY=1) only when something waits for it, so that a missing wait between streams gives wrong
// results.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace polar::emulator {

struct Stream;

// After the first `count` operations of `stream`.
struct Dependency {
  std::shared_ptr<Stream> stream;
  uint64_t count = 0;
};

struct Operation {
  std::function<void()> work;
  std::vector<Dependency> after;
};

struct Stream {
  std::deque<Operation> queue;
  uint64_t issued = 0, done = 0;
  bool busy = false;              // its first operation is being done, or waits for others
  bool waits_for_default = true;  // not made with cudaStreamNonBlocking
  unsigned flags = 0;
  int priority = 0;
};

// Device memory, or host memory that is pinned: each block is one of the heap, of exactly the size asked for.
struct Allocation {
  char* memory = nullptr;
  size_t bytes = 0;
  bool on_device = true;
};

struct Runtime {
  std::recursive_mutex mutex;
  std::shared_ptr<Stream> default_stream = std::make_shared<Stream>();
  std::vector<std::shared_ptr<Stream>> streams{default_stream};
  std::map<const char*, Allocation> allocations;
  size_t device_bytes = 0, peak_device_bytes = 0;
  std::map<const void*, size_t> shared_limits;  // by kernel, what cudaFuncSetAttribute has allowed
};
Runtime& runtime();

// Keeps the status for cudaGetLastError and returns it.
cudaError_t finish(cudaError_t status);
// The allocation that `pointer` lies in (or just behind); null if none.
const Allocation* find_allocation(const void* pointer);

// Queues an operation that is named `name` in reports.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work);
std::shared_ptr<Stream> stream_of(cudaStream_t handle);
// Does what is queued, as far as is asked.
void complete(const std::shared_ptr<Stream>& stream, uint64_t count);
void complete_all();

}  // namespace polar::emulator

struct CUstream_st {
  std::shared_ptr<polar::emulator::Stream> stream;
};
