// The device that the emulator pretends to be, attributes of functions, and errors.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <string_view>

#include "device_emulation.h"
#include "options.h"
#include "runtime.h"
#include "sanitizers.h"
#include "tensor_copy.h"

using namespace polar::emulator;  // NOLINT: what follows are the C functions of CUDA

namespace {

constexpr int kMultiprocessors = 4;  // few, so that grids sized by them stay small
constexpr int kThreadsPerMultiprocessor = 2048;

thread_local cudaError_t last_error = cudaSuccess;
char fence;

}  // namespace

void __threadfence() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  release(&fence);
  acquire(&fence);
}

cudaError_t polar::emulator::finish(cudaError_t status) {
  if (status != cudaSuccess) last_error = status;
  return status;
}

extern "C" {

cudaError_t cudaGetLastError() {
  const cudaError_t status = last_error;
  last_error = cudaSuccess;
  return status;
}
cudaError_t cudaPeekAtLastError() {
  return last_error;
}

#define POLAR_CASE(code, text) \
  case code:                   \
    return name ? #code : text
static const char* describe(cudaError_t status, bool name) {
  switch (status) {
    POLAR_CASE(cudaSuccess, "no error");
    POLAR_CASE(cudaErrorInvalidValue, "invalid argument");
    POLAR_CASE(cudaErrorMemoryAllocation, "out of memory");
    POLAR_CASE(cudaErrorInvalidConfiguration, "invalid configuration argument");
    POLAR_CASE(cudaErrorInvalidPitchValue, "invalid pitch argument");
    POLAR_CASE(cudaErrorInvalidDevice, "invalid device ordinal");
    POLAR_CASE(cudaErrorInvalidResourceHandle, "invalid resource handle");
    POLAR_CASE(cudaErrorNotReady, "device not ready");
    POLAR_CASE(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing");
    POLAR_CASE(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture");
    POLAR_CASE(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work");
    POLAR_CASE(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream");
    POLAR_CASE(cudaErrorStreamCaptureImplicit,
               "operation would make the legacy stream depend on a capturing stream");
    POLAR_CASE(cudaErrorIllegalState, "the operation cannot be performed in the present state");
    POLAR_CASE(cudaErrorGraphExecUpdateFailure, "the graph update was not performed");
    POLAR_CASE(cudaErrorSymbolNotFound, "named symbol not found");
    POLAR_CASE(cudaErrorNotSupported, "operation not supported");
    default:
      return "unknown error";
  }
}
#undef POLAR_CASE
const char* cudaGetErrorName(cudaError_t status) {
  return describe(status, true);
}
const char* cudaGetErrorString(cudaError_t status) {
  return describe(status, false);
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return finish(cudaSuccess);
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return finish(cudaSuccess);
}
cudaError_t cudaSetDevice(int device) {
  return finish(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return finish(cudaSuccess);
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  return cudaDriverGetVersion(version);
}
// The functions of the driver that the backend looks up.
cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long, cudaDriverEntryPointQueryResult* found) {
  const bool known = std::string_view(symbol) == "cuTensorMapEncodeTiled" && options().capability >= 90;
  *function = known ? reinterpret_cast<void*>(&encode_tensor_map) : nullptr;
  if (found != nullptr) *found = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return finish(cudaSuccess);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return finish(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return finish(cudaErrorInvalidDevice);
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated");
  properties->major = options().capability / 10;
  properties->minor = options().capability % 10;
  properties->totalGlobalMem = options().memory_limit;
  properties->multiProcessorCount = kMultiprocessors;
  properties->maxThreadsPerBlock = 1024;
  properties->maxThreadsPerMultiProcessor = kThreadsPerMultiprocessor;
  properties->warpSize = 32;
  properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
  properties->sharedMemPerBlock = kDefaultSharedBytes;
  properties->sharedMemPerBlockOptin = kMaximumSharedBytes;
  properties->sharedMemPerMultiprocessor = kMaximumSharedBytes + 1024;
  properties->reservedSharedMemPerBlock = 1024;
  properties->l2CacheSize = 50 << 20;
  properties->memoryBusWidth = 5120;
  properties->unifiedAddressing = 1;
  properties->asyncEngineCount = 2;
  properties->concurrentKernels = 1;
  return finish(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return finish(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
      *value = options().capability / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = options().capability % 10;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = kThreadsPerMultiprocessor;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(kDefaultSharedBytes);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(kMaximumSharedBytes);
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = static_cast<int>(kMaximumSharedBytes) + 1024;
      break;
    case cudaDevAttrL2CacheSize:
      *value = 50 << 20;
      break;
    case cudaDevAttrClockRate:
      *value = 1980000;
      break;  // kHz
    case cudaDevAttrMemoryClockRate:
      *value = 2619000;
      break;  // kHz
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = 5120;
      break;  // bits
    case cudaDevAttrUnifiedAddressing:
      *value = 1;
      break;
    case cudaDevAttrConcurrentKernels:
      *value = 1;
      break;
    case cudaDevAttrAsyncEngineCount:
      *value = 2;
      break;
    case cudaDevAttrCooperativeLaunch:
      *value = 0;
      break;
    default:
      return finish(cudaErrorInvalidValue);
  }
  return finish(cudaSuccess);
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return finish(cudaSuccess);
  if (value < 0 || static_cast<size_t>(value) > kMaximumSharedBytes) return finish(cudaErrorInvalidValue);
  const std::lock_guard lock(runtime().mutex);
  runtime().shared_limits[kernel] = static_cast<size_t>(value);
  return finish(cudaSuccess);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  return finish(cudaSuccess);
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads,
                                                          size_t shared_bytes) {
  const int by_threads = kThreadsPerMultiprocessor / std::max(threads, 1);
  const int by_shared = static_cast<int>((kMaximumSharedBytes + 1024) / (shared_bytes + 1024));
  *blocks = std::min({by_threads, by_shared, 32});
  return finish(cudaSuccess);
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* kernel,
                                                                   int threads, size_t shared_bytes,
                                                                   unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, kernel, threads, shared_bytes);
}

}  // extern "C"
