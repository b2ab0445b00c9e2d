// The one header that a kernel file includes (besides helpers of this folder): CUDA under nvcc; the emulator
// (kernels/emulator) under a plain C++20 compiler. A kernel file has to be good for both:
//
//  * Shared memory only through DEVICE_SHARED(T, name, [N][M]) and DEVICE_DYNAMIC_SHARED(name), which
//  declares
//    `unsigned char* name`, 1024-byte aligned: carve it up. More than 48 KB of it has to be allowed first:
//    device_allow_dynamic_shared(&kernel<...>, bytes).
//  * Launches only through device_launch(LaunchConfig(grid, block, shared_bytes, stream), &kernel<...>, ...).
//    The grid may be computed in size_t and narrowed by LaunchConfig; an empty grid launches nothing.
//  * Inline assembly only in the wrappers of ptx.cuh and ptx_sm90.cuh.
//  * Warp primitives only with `_sync` and an explicit mask; no return before a barrier; no waiting for
//  another
//    block. Atomics on integers only: results may not depend on an order.
//  * Kernels have external linkage (not static, not in an unnamed namespace); their parameters are pointers,
//    scalars and trivially copyable structs.
//  * Code for one architecture stands behind its macro, DEVICE_HAS_SM90A of ptx_sm90.cuh.
#pragma once

#include "launch_count.h"
#include "types.h"

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#define DEVICE_SHARED(T, name, ...) __shared__ __align__(16) T name __VA_ARGS__
#define DEVICE_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]

namespace polar::kernels {

struct LaunchConfig {
  dim3 grid, block;
  size_t shared_bytes;
  cudaStream_t stream;
  LaunchConfig(dim3 grid_, dim3 block_, size_t shared_bytes_ = 0, cudaStream_t stream_ = nullptr)
      : grid(grid_), block(block_), shared_bytes(shared_bytes_), stream(stream_) {}
};

template <class... Parameters, class... Arguments>
cudaError_t device_launch(const LaunchConfig& launch, void (*kernel)(Parameters...),
                          Arguments&&... arguments) {
  if (launch.grid.x == 0 || launch.grid.y == 0 || launch.grid.z == 0) return cudaSuccess;
  launch_count.fetch_add(1, std::memory_order_relaxed);
  cudaLaunchConfig_t config{};
  config.gridDim = launch.grid;
  config.blockDim = launch.block;
  config.dynamicSmemBytes = launch.shared_bytes;
  config.stream = launch.stream;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...);
}

}  // namespace polar::kernels

#else

#include "emulator/device_emulation.h"

namespace polar::kernels {

using emulator::device_launch;
using emulator::LaunchConfig;

}  // namespace polar::kernels

#endif

namespace polar::kernels {

// Lets a kernel be launched with up to `bytes` of dynamic shared memory; needed above 48 KB, once is enough.
template <class... Parameters>
cudaError_t device_allow_dynamic_shared(void (*kernel)(Parameters...), size_t bytes) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace polar::kernels
