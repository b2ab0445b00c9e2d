// The CUDA runtime as this backend uses it: every status checked and turned into an Error that names the
// call, its place and what to do; streams, events and memory that go with their owner.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace polar::cuda {

// Throws an Error unless `status` is cudaSuccess: the call's text, file:line, the status and a hint.
#define CUDA_CHECK(...) ::polar::cuda::check((__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
void check(cudaError_t status, const char* call, const char* file, int line);

// "norm.cpp:41" from a path: messages show no folders of the machine that compiled.
const char* file_name(const char* path);
// A call as messages show it: without its arguments if they are long.
std::string call_text(const char* call);

// Makes `device` the calling thread's current one. Error if that fails.
void use_device(int device);

// Device memory. Error when there is not enough: bytes asked, bytes free, which settings need less.
void* allocate_device(size_t bytes);
void release_device(void* memory) noexcept;
// Pinned host memory.
void* allocate_pinned(size_t bytes);
void release_pinned(void* memory) noexcept;

struct ReleaseDevice {
  void operator()(std::byte* memory) const noexcept { release_device(memory); }
};
using DeviceMemory = std::unique_ptr<std::byte, ReleaseDevice>;
inline DeviceMemory make_device_memory(size_t bytes) {
  return DeviceMemory(static_cast<std::byte*>(allocate_device(bytes)));
}

// A stream that does not wait for the default stream.
class Stream {
 public:
  Stream();
  explicit Stream(std::nullptr_t) {}  // none: nothing can be queued
  cudaStream_t get() const { return stream_.get(); }
  void synchronize() const;
  // Work queued on this stream from now on waits for what `event` recorded.
  void wait(cudaEvent_t event) const;

 private:
  struct Destroy {
    void operator()(cudaStream_t stream) const noexcept;
  };
  std::unique_ptr<std::remove_pointer_t<cudaStream_t>, Destroy> stream_;
};

enum class EventKind { order, timing };  // an event without timing costs less

class Event {
 public:
  explicit Event(EventKind kind = EventKind::order);
  cudaEvent_t get() const { return event_.get(); }
  void record(const Stream& stream) const;
  void synchronize() const;
  // Has everything before the record been done?
  bool done() const;
  // Milliseconds since `begin`; both of kind timing and done.
  float milliseconds_since(const Event& begin) const;

 private:
  struct Destroy {
    void operator()(cudaEvent_t event) const noexcept;
  };
  std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, Destroy> event_;
};

// A captured piece of a stream's work, ready to be queued as a whole.
class Graph {
 public:
  // Captures what `work` queues on `stream`, without doing it. `work` may do nothing that waits. What it
  // throws is passed on, and the stream is as it was before.
  template <class Work>
  static Graph capture(const Stream& stream, const Work& work) {
    Capture capture(stream);
    work();
    return capture.finish();
  }
  void launch(const Stream& stream) const;

 private:
  struct Destroy {
    void operator()(cudaGraph_t graph) const noexcept;
    void operator()(cudaGraphExec_t graph) const noexcept;
  };
  using Captured = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, Destroy>;
  using Executable = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy>;

  class Capture {
   public:
    explicit Capture(const Stream& stream);
    ~Capture();  // given up, if it was not finished
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    Graph finish();

   private:
    const Stream& stream_;
    bool open_ = true;
  };

  explicit Graph(Executable executable) : executable_(std::move(executable)) {}
  Executable executable_;
};

}  // namespace polar::cuda
