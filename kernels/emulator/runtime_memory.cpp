// cudaMalloc and relatives, copies, fills.
#include <cstdlib>
#include <cstring>

#include "options.h"
#include "report.h"
#include "runtime.h"

namespace polar::emulator {
namespace {

constexpr size_t kAlignment = 256;

cudaError_t allocate(void** pointer, size_t bytes, bool on_device) {
  Runtime& state = runtime();
  const std::lock_guard lock(state.mutex);
  *pointer = nullptr;
  if (const cudaError_t status = refuse_in_capture(nullptr); status != cudaSuccess) return finish(status);
  if (bytes == 0) return finish(cudaSuccess);
  if (on_device && bytes > options().memory_limit - std::min(options().memory_limit, state.device_bytes))
    return finish(cudaErrorMemoryAllocation);
  void* memory = nullptr;
  if (posix_memalign(&memory, kAlignment, bytes) != 0) return finish(cudaErrorMemoryAllocation);
  std::memset(memory, 0xff, bytes);
  state.allocations[static_cast<char*>(memory)] = {static_cast<char*>(memory), bytes, on_device};
  if (on_device) state.device_bytes += bytes;
  state.peak_device_bytes = std::max(state.peak_device_bytes, state.device_bytes);
  *pointer = memory;
  return finish(cudaSuccess);
}

cudaError_t release(void* pointer, bool on_device) {
  Runtime& state = runtime();
  const std::lock_guard lock(state.mutex);
  if (pointer == nullptr) return finish(cudaSuccess);
  if (const cudaError_t status = refuse_in_capture(nullptr); status != cudaSuccess) return finish(status);
  complete_all();
  const auto found = state.allocations.find(static_cast<char*>(pointer));
  if (found == state.allocations.end() || found->second.on_device != on_device)
    return finish(cudaErrorInvalidValue);
  if (on_device) state.device_bytes -= found->second.bytes;
  state.allocations.erase(found);
  std::free(pointer);
  return finish(cudaSuccess);
}

void check_inside(const char* call, const char* which, const Allocation& allocation, const void* pointer,
                  size_t bytes) {
  const auto offset = static_cast<size_t>(static_cast<const char*>(pointer) - allocation.memory);
  if (bytes > allocation.bytes - offset)
    fail("{}: {} bytes at offset {} of a {} of {} bytes", call, bytes, offset, which, allocation.bytes);
}

void check_host_range(const char* call, const char* which, const void* pointer, size_t bytes) {
  const Allocation* allocation = find_allocation(pointer);
  if (allocation == nullptr) return;  // pageable
  if (allocation->on_device) fail("{}: the {} is device memory", call, which);
  check_inside(call, which, *allocation, pointer, bytes);
}

bool is_device(const void* pointer) {
  const Allocation* allocation = find_allocation(pointer);
  return allocation != nullptr && allocation->on_device;
}
bool is_pageable(const void* pointer) {
  return find_allocation(pointer) == nullptr;
}

// `rows` rows of `width` bytes.
struct Copy {
  const char* call;
  char* to;
  size_t to_pitch;
  const char* from;
  size_t from_pitch;
  size_t width, rows;
  cudaMemcpyKind kind;
};

void check(Copy& copy) {
  if (copy.kind == cudaMemcpyDefault) {
    const bool to_device = is_device(copy.to), from_device = is_device(copy.from);
    copy.kind = to_device ? (from_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice)
                          : (from_device ? cudaMemcpyDeviceToHost : cudaMemcpyHostToHost);
  }
  const bool to_device = copy.kind == cudaMemcpyHostToDevice || copy.kind == cudaMemcpyDeviceToDevice;
  const bool from_device = copy.kind == cudaMemcpyDeviceToHost || copy.kind == cudaMemcpyDeviceToDevice;
  const size_t to_bytes = (copy.rows - 1) * copy.to_pitch + copy.width;
  const size_t from_bytes = (copy.rows - 1) * copy.from_pitch + copy.width;
  (to_device ? check_device_range : check_host_range)(copy.call, "destination", copy.to, to_bytes);
  (from_device ? check_device_range : check_host_range)(copy.call, "source", copy.from, from_bytes);
}

void run(const Copy& copy) {
  for (size_t row = 0; row < copy.rows; ++row)
    std::memcpy(copy.to + row * copy.to_pitch, copy.from + row * copy.from_pitch, copy.width);
}

cudaError_t copy_async(Copy copy, cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  if (copy.width == 0 || copy.rows == 0) return finish(cudaSuccess);
  if (copy.width > copy.to_pitch || copy.width > copy.from_pitch) return finish(cudaErrorInvalidPitchValue);
  check(copy);
  // Pageable memory is read before the call returns, and written before it returns; pinned memory whenever
  // the stream comes to it, and so is all memory in a graph.
  const bool captured = stream_of(stream)->capture != nullptr;
  if (!captured && copy.kind == cudaMemcpyHostToDevice && is_pageable(copy.from)) {
    auto staged = std::make_shared<std::string>(copy.width * copy.rows, '\0');
    Copy to_staging = copy;
    to_staging.to = staged->data();
    to_staging.to_pitch = copy.width;
    run(to_staging);
    copy.from = staged->data();
    copy.from_pitch = copy.width;
    return finish(enqueue(stream, [copy, staged] { run(copy); }));
  }
  const cudaError_t status = enqueue(stream, [copy] { run(copy); });
  if (status == cudaSuccess && !captured && is_pageable(copy.to)) {
    const std::shared_ptr<Stream> target = stream_of(stream);
    complete(target, target->issued);
  }
  return finish(status);
}

cudaError_t copy_now(const Copy& copy) {
  const std::lock_guard lock(runtime().mutex);
  const cudaError_t status = copy_async(copy, nullptr);
  if (status != cudaSuccess) return status;
  complete(runtime().default_stream, runtime().default_stream->issued);
  return status;
}

// Rows of bytes that are set.
cudaError_t fill_async(const char* call, void* to, size_t pitch, int value, size_t width, size_t rows,
                       cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  if (width == 0 || rows == 0) return finish(cudaSuccess);
  check_device_range(call, "destination", to, (rows - 1) * pitch + width);
  return finish(enqueue(stream, [=] {
    for (size_t row = 0; row < rows; ++row) std::memset(static_cast<char*>(to) + row * pitch, value, width);
  }));
}

Copy flat(const char* call, void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return {call, static_cast<char*>(to), bytes, static_cast<const char*>(from), bytes, bytes, 1, kind};
}
Copy matrix(const char* call, void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
            size_t rows, cudaMemcpyKind kind) {
  return {call, static_cast<char*>(to), to_pitch, static_cast<const char*>(from), from_pitch, width, rows,
          kind};
}

}  // namespace

const Allocation* find_allocation(const void* pointer, bool end_too) {
  const auto& all = runtime().allocations;
  auto found = all.upper_bound(static_cast<const char*>(pointer));
  if (found == all.begin()) return nullptr;
  --found;
  const auto offset = static_cast<size_t>(static_cast<const char*>(pointer) - found->first);
  const bool inside = offset < found->second.bytes || (end_too && offset == found->second.bytes);
  return inside ? &found->second : nullptr;
}

void check_device_range(const char* call, const char* which, const void* pointer, size_t bytes) {
  const Allocation* allocation = find_allocation(pointer);
  if (allocation == nullptr || !allocation->on_device)
    fail("{}: the {} {} is not device memory", call, which, fmt::ptr(pointer));
  check_inside(call, which, *allocation, pointer, bytes);
}

}  // namespace polar::emulator

using namespace polar::emulator;  // NOLINT: what follows are the C functions of CUDA

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  return allocate(pointer, bytes, true);
}
cudaError_t cudaFree(void* pointer) {
  return release(pointer, true);
}
cudaError_t cudaMallocHost(void** pointer, size_t bytes) {
  return allocate(pointer, bytes, false);
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  return allocate(pointer, bytes, false);
}
cudaError_t cudaFreeHost(void* pointer) {
  return release(pointer, false);
}

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  const std::lock_guard lock(runtime().mutex);
  *total = options().memory_limit;
  *available = *total - std::min(*total, runtime().device_bytes);
  return finish(cudaSuccess);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return copy_now(flat("cudaMemcpy", to, from, bytes, kind));
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return copy_async(flat("cudaMemcpyAsync", to, from, bytes, kind), stream);
}
cudaError_t cudaMemcpy2D(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                         size_t rows, cudaMemcpyKind kind) {
  return copy_now(matrix("cudaMemcpy2D", to, to_pitch, from, from_pitch, width, rows, kind));
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t rows, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy_async(matrix("cudaMemcpy2DAsync", to, to_pitch, from, from_pitch, width, rows, kind), stream);
}
cudaError_t cudaMemset(void* to, int value, size_t bytes) {
  return fill_async("cudaMemset", to, bytes, value, bytes, 1, nullptr);
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  return fill_async("cudaMemsetAsync", to, bytes, value, bytes, 1, stream);
}
cudaError_t cudaMemset2DAsync(void* to, size_t pitch, int value, size_t width, size_t rows,
                              cudaStream_t stream) {
  return fill_async("cudaMemset2DAsync", to, pitch, value, width, rows, stream);
}

}  // extern "C"
