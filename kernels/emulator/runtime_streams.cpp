// Streams, events and launches.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>

#include "device_emulation.h"
#include "kernels/launch_count.h"
#include "launch_log.h"
#include "options.h"
#include "report.h"
#include "runtime.h"
#include "translation.h"
#include "worker.h"

namespace polar::emulator {
namespace {

void do_next(const std::shared_ptr<Stream>& stream) {
  stream->busy = true;
  for (const Dependency& before : stream->queue.front().after) complete(before.stream, before.count);
  stream->queue.front().work();
  stream->queue.pop_front();
  ++stream->done;
  stream->busy = false;
}

std::mt19937& stream_random() {
  static std::mt19937 random(options().seed);
  return random;
}

// A stream is ready if its next operation waits for nothing. One that waits may wait for a stream which is
// itself waiting, further out, for this very call to return.
bool is_ready(const Stream& stream) {
  if (stream.queue.empty() || stream.busy || stream.queue.front().outside) return false;
  const std::vector<Dependency>& after = stream.queue.front().after;
  return std::all_of(after.begin(), after.end(),
                     [](const Dependency& before) { return before.stream->done >= before.count; });
}

std::shared_ptr<Stream> any_ready_stream() {
  std::vector<std::shared_ptr<Stream>> ready;
  for (const auto& stream : runtime().streams)
    if (is_ready(*stream)) ready.push_back(stream);
  return ready.empty() ? nullptr : ready[stream_random()() % ready.size()];
}

// What the default stream and the others owe each other.
std::vector<Dependency> implicit_dependencies(const std::shared_ptr<Stream>& stream) {
  const Runtime& state = runtime();
  std::vector<Dependency> after;
  if (stream == state.default_stream) {
    for (const auto& other : state.streams)
      if (other != stream && other->waits_for_default && other->done < other->issued)
        after.push_back({other, other->issued});
  } else if (stream->waits_for_default && state.default_stream->done < state.default_stream->issued) {
    after.push_back({state.default_stream, state.default_stream->issued});
  }
  return after;
}

bool is_default(cudaStream_t handle) {
  return handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread;
}

}  // namespace

Runtime& runtime() {
  static Runtime& state = *new Runtime;  // never destroyed: destructors of globals may still free memory
  return state;
}

std::shared_ptr<Stream> stream_of(cudaStream_t handle) {
  return is_default(handle) ? runtime().default_stream : handle->stream;
}

void complete(const std::shared_ptr<Stream>& stream, uint64_t count) {
  constexpr uint32_t kOthers = 4;  // in random order, other streams get on a little meanwhile
  while (stream->done < count) {
    if (stream->busy) fail("streams wait for each other in a circle");
    const bool detour = options().order == Order::random && stream_random()() % kOthers == 0;
    const std::shared_ptr<Stream> next = detour ? any_ready_stream() : stream;
    if (next != nullptr) do_next(next);
  }
}

void complete_all() {
  if (options().order == Order::random)
    while (const std::shared_ptr<Stream> stream = any_ready_stream()) do_next(stream);
  std::vector<std::shared_ptr<Stream>> streams = runtime().streams;
  if (options().order == Order::reverse) std::reverse(streams.begin(), streams.end());
  for (const auto& stream : streams) complete(stream, stream->issued);
}

cudaError_t enqueue(cudaStream_t handle, std::function<void()> work, const void* kernel,
                    const Dependency& after) {
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream->capture != nullptr) return capture_operation(stream, std::move(work), kernel);
  if (stream == runtime().default_stream)
    for (const auto& other : runtime().streams)
      if (other->waits_for_default && other->capture != nullptr) {
        other->capture->invalid = true;
        return cudaErrorStreamCaptureImplicit;
      }
  std::vector<Dependency> all = implicit_dependencies(stream);
  if (after.stream != nullptr) all.push_back(after);
  stream->queue.push_back({std::move(work), std::move(all)});
  ++stream->issued;
  if (!options().lazy_streams) complete(stream, stream->issued);
  return cudaSuccess;
}

cudaError_t enqueue_outside(cudaStream_t handle, std::function<void()> work) {
  const cudaError_t status = enqueue(handle, std::move(work), nullptr, {});
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (stream->capture == nullptr && !stream->queue.empty()) stream->queue.back().outside = true;
  return status;
}

void check_pointer_argument(const void* pointer, int position, std::source_location where) {
  const std::lock_guard lock(runtime().mutex);
  if (pointer == nullptr || find_allocation(pointer, true) != nullptr) return;
  fail("launch at {}: argument {} of the kernel, {}, is not device memory", place(where), position,
       fmt::ptr(pointer));
}

static bool launchable(const LaunchConfig& config) {
  const dim3 &grid = config.grid, &block = config.block;
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64) {
    note(fmt::format("launch at {}: a block of {}x{}x{} threads", place(config.where), block.x, block.y,
                     block.z));
    return false;
  }
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    note(fmt::format("launch at {}: a grid of {}x{}x{} blocks", place(config.where), grid.x, grid.y, grid.z));
    return false;
  }
  return true;
}

// A launch by the translation of the kernel's PTX: what a thread runs, and where the arguments are.
struct TranslatedCall {
  TranslatedFunction function = nullptr;
  std::vector<const void*> arguments;
  static void run(const void* self) {
    const auto& call = *static_cast<const TranslatedCall*>(self);
    call.function(call.arguments.data());
  }
};

// The translation of `call`, whose copy stands at `bound`; null without translations.
static std::shared_ptr<TranslatedCall> translated(const LaunchConfig& config, const KernelCall& call,
                                                  const void* bound) {
  if (!runs_translations()) return nullptr;
  auto translated = std::make_shared<TranslatedCall>();
  translated->arguments.resize(call.parameters);
  std::vector<size_t> bytes(call.parameters);
  call.locate(bound, translated->arguments.data(), bytes.data());
  const Translation& translation = translation_of(call.kernel, bytes, config.where);
  const uint32_t threads = config.block.x * config.block.y * config.block.z;
  if (translation.maximum_threads > 0 && threads > static_cast<uint32_t>(translation.maximum_threads))
    fail("launch at {}: {} threads in a block, but __launch_bounds__ of {}", place(config.where), threads,
         translation.maximum_threads);
  translated->function = translation.run;
  return translated;
}

cudaError_t queue_launch(const LaunchConfig& config, const KernelCall& call) {
  Runtime& state = runtime();
  const std::lock_guard lock(state.mutex);
  if (config.grid.x == 0 || config.grid.y == 0 || config.grid.z == 0) return cudaSuccess;
  if (!launchable(config)) return finish(cudaErrorInvalidConfiguration);
  const auto raised = state.shared_limits.find(call.kernel);
  const size_t limit = raised == state.shared_limits.end() ? kDefaultSharedBytes : raised->second;
  if (config.shared_bytes > limit) {
    note(fmt::format("launch at {}: {} bytes of dynamic shared memory, {} are allowed", place(config.where),
                     config.shared_bytes, limit));
    return finish(cudaErrorInvalidValue);
  }
  kernels::launch_count.fetch_add(1, std::memory_order_relaxed);
  log_launch(call.kernel, size_t{config.block.x} * config.block.y * config.block.z, config.shared_bytes,
             config.where);
  const auto free_aligned = [alignment = call.alignment](void* memory) {
    ::operator delete(memory, std::align_val_t(alignment));
  };
  const std::shared_ptr<void> bound(::operator new(call.bytes, std::align_val_t(call.alignment)),
                                    free_aligned);
  std::memcpy(bound.get(), call.bound, call.bytes);
  const std::shared_ptr<TranslatedCall> translation = translated(config, call, bound.get());
  const Grid grid{config.grid,
                  config.block,
                  config.shared_bytes,
                  limit > kDefaultSharedBytes,
                  translation == nullptr ? call.run : &TranslatedCall::run,
                  translation == nullptr ? bound.get() : static_cast<const void*>(translation.get()),
                  config.where};
  return finish(enqueue(
      config.stream, [grid, bound, translation] { run_grid(grid); }, call.kernel));
}

}  // namespace polar::emulator

using namespace polar::emulator;  // NOLINT: what follows are the C functions of CUDA

using Clock = std::chrono::steady_clock;

static cudaError_t create_stream(cudaStream_t* handle, unsigned flags, int priority) {
  Runtime& state = runtime();
  const std::lock_guard lock(state.mutex);
  *handle = new CUstream_st{std::make_shared<Stream>()};
  (*handle)->stream->flags = flags;
  (*handle)->stream->priority = priority;
  (*handle)->stream->waits_for_default = (flags & cudaStreamNonBlocking) == 0;
  state.streams.push_back((*handle)->stream);
  return finish(cudaSuccess);
}

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t* stream) {
  return create_stream(stream, cudaStreamDefault, 0);
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return create_stream(stream, flags, 0);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  return create_stream(stream, flags, priority);
}
// Work that is queued is still done.
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  complete(stream->stream, stream->stream->issued);
  std::erase(runtime().streams, stream->stream);
  delete stream;
  return finish(cudaSuccess);
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const std::lock_guard lock(runtime().mutex);
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (const cudaError_t status = refuse_in_capture(stream.get()); status != cudaSuccess)
    return finish(status);
  complete(stream, stream->issued);
  return finish(cudaSuccess);
}
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const std::lock_guard lock(runtime().mutex);
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (const cudaError_t status = refuse_in_capture(stream.get()); status != cudaSuccess)
    return finish(status);
  if (stream->done == stream->issued) return cudaSuccess;
  complete(stream, stream->done + 1);  // whoever asks again and again gets there
  return cudaErrorNotReady;
}
cudaError_t cudaDeviceSynchronize() {
  const std::lock_guard lock(runtime().mutex);
  if (const cudaError_t status = refuse_in_capture(nullptr); status != cudaSuccess) return finish(status);
  complete_all();
  return finish(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return finish(cudaSuccess);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;
  (*event)->timed = (flags & cudaEventDisableTiming) == 0;
  return finish(cudaSuccess);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return finish(cudaSuccess);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t handle) {
  const std::lock_guard lock(runtime().mutex);
  const std::shared_ptr<Stream> stream = stream_of(handle);
  event->capture = stream->capture;
  event->captured_after = stream->captured_after;
  event->recorded = {};
  if (stream->capture != nullptr) return finish(cudaSuccess);
  event->recorded = {stream, stream->issued + 1};
  return finish(enqueue(handle, [time = event->time] { *time = Clock::now(); }));
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(runtime().mutex);
  const std::shared_ptr<Stream> stream = stream_of(handle);
  if (event->capture != nullptr) return finish(join_capture(stream, event->capture, event->captured_after));
  if (event->recorded.stream == nullptr) return finish(cudaSuccess);
  if (stream->capture != nullptr) {
    stream->capture->invalid = true;
    return finish(cudaErrorStreamCaptureIsolation);
  }
  return finish(enqueue(
      handle, [] {}, nullptr, event->recorded));
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const std::lock_guard lock(runtime().mutex);
  if (event->capture != nullptr) return finish(cudaErrorCapturedEvent);
  if (event->recorded.stream != nullptr) complete(event->recorded.stream, event->recorded.count);
  return finish(cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const std::lock_guard lock(runtime().mutex);
  if (event->capture != nullptr) return finish(cudaErrorCapturedEvent);
  const Dependency& recorded = event->recorded;
  if (recorded.stream == nullptr || recorded.stream->done >= recorded.count) return cudaSuccess;
  complete(recorded.stream, recorded.stream->done + 1);  // whoever asks again and again gets there
  return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  const std::lock_guard lock(runtime().mutex);
  for (const cudaEvent_t event : {start, end}) {
    if (event->recorded.stream == nullptr || !event->timed) return finish(cudaErrorInvalidResourceHandle);
    if (event->recorded.stream->done < event->recorded.count) return finish(cudaErrorNotReady);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(*end->time - *start->time).count();
  return finish(cudaSuccess);
}

}  // extern "C"
