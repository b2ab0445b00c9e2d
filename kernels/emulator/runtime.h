// The replacement of the CUDA runtime library: what its calls share. The calls themselves have CUDA's names
// and are linked instead of libcudart (runtime_*.cpp).
//
// A stream is a queue of operations. An operation may have to wait for a number of operations of other
// streams: that is what events are. Eager streams (the default) do an operation as soon as it is queued; lazy
// ones (EMULATOR_LAZY=1) only when something waits for it, so that a missing wait between streams gives wrong
// results.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
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
  bool outside = false;  // waits for other processes: see enqueue_outside
};

// What a stream does while it is captured becomes a graph: operations in the order in which they were issued.
struct Node {
  std::function<void()> work;
  const void* kernel = nullptr;  // null: no kernel
  std::vector<size_t> after;     // earlier nodes
};
using Nodes = std::vector<Node>;

struct Capture {
  Nodes nodes;
  std::shared_ptr<Stream> origin;
  std::vector<std::shared_ptr<Stream>> members;  // the origin, and what joined by waiting for an event
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  bool invalid = false;
};

struct Stream {
  std::deque<Operation> queue;
  uint64_t issued = 0, done = 0;
  bool busy = false;              // its first operation is being done, or waits for others
  bool waits_for_default = true;  // not made with cudaStreamNonBlocking
  unsigned flags = 0;
  int priority = 0;
  std::shared_ptr<Capture> capture;    // null: not capturing
  std::vector<size_t> captured_after;  // the nodes that the next captured operation follows
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
  std::map<const void*, size_t> shared_limits;     // by kernel, what cudaFuncSetAttribute has allowed
  std::vector<std::shared_ptr<Capture>> captures;  // under way
};
Runtime& runtime();

// Keeps the status for cudaGetLastError and returns it.
cudaError_t finish(cudaError_t status);
// The allocation that `pointer` lies in, or with `end_too` just behind; null if none.
const Allocation* find_allocation(const void* pointer, bool end_too = false);
// Fails unless all of the bytes lie in one allocation on the device. `call` and `which` are for the report.
void check_device_range(const char* call, const char* which, const void* pointer, size_t bytes);

// Queues an operation, which comes `after` something of another stream if that is given; or adds it to the
// graph that the stream is captured into.
cudaError_t enqueue(cudaStream_t stream, std::function<void()> work, const void* kernel = nullptr,
                    const Dependency& after = {});
// The same for what waits for other processes. Those may wait for the host of this one, which here stands
// still meanwhile: so it is begun only where something needs it, never because a random order happens to.
cudaError_t enqueue_outside(cudaStream_t stream, std::function<void()> work);
std::shared_ptr<Stream> stream_of(cudaStream_t handle);
// Does what is queued, as far as is asked.
void complete(const std::shared_ptr<Stream>& stream, uint64_t count);
void complete_all();

// --- captures (runtime_graphs.cpp) ---
// An operation of `stream`, which is captured.
cudaError_t capture_operation(const std::shared_ptr<Stream>& stream, std::function<void()> work,
                              const void* kernel);
// `stream` (captured or not) goes on after the nodes of a capture.
cudaError_t join_capture(const std::shared_ptr<Stream>& stream, const std::shared_ptr<Capture>& capture,
                         const std::vector<size_t>& after);
// For calls that a capture forbids. `stream`: one that is waited for, null: the call is unsafe whatever it
// does. Returns the error, after which the capture is void; cudaSuccess if no capture is concerned.
cudaError_t refuse_in_capture(const Stream* stream);

}  // namespace polar::emulator

struct CUstream_st {
  std::shared_ptr<polar::emulator::Stream> stream;
};

struct CUevent_st {
  polar::emulator::Dependency recorded;  // no stream: never recorded, or captured
  std::shared_ptr<polar::emulator::Capture> capture;
  std::vector<size_t> captured_after;
  std::shared_ptr<std::chrono::steady_clock::time_point> time =
      std::make_shared<std::chrono::steady_clock::time_point>();
  bool timed = true;
};
