// CUDA's device side for a plain C++20 compiler: included by kernels/device.cuh instead of CUDA's.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <vector_functions.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#include "collectives.h"
#include "device_functions.h"
#include "shared_memory.h"
#include "thread.h"

// CUDA's headers make these words vanish for a host compiler. A kernel is weak, so that the one that was made
// from nvcc's PTX can take its place; and __shared__ must not silently become an array of each thread's own.
#undef __global__
#define __global__ __attribute__((weak))
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__
#define __shared__ static_assert(false, "use DEVICE_SHARED or DEVICE_DYNAMIC_SHARED");

#define DEVICE_SHARED(T, name, ...)                                                               \
  static const char name##_key = 0;                                                               \
  using name##_type = T __VA_ARGS__;                                                              \
  [[maybe_unused]] name##_type& name = *static_cast<name##_type*>(polar::emulator::static_shared( \
      &name##_key, sizeof(name##_type), alignof(name##_type) < 16 ? size_t{16} : alignof(name##_type)))
#define DEVICE_DYNAMIC_SHARED(name) unsigned char* name = polar::emulator::dynamic_shared()

#define threadIdx (polar::emulator::current_thread->index)
#define blockIdx (polar::emulator::current_thread->block->index)
#define blockDim (polar::emulator::current_thread->block->grid->block)
#define gridDim (polar::emulator::current_thread->block->grid->grid)
constexpr int warpSize = 32;

// --- barriers and fences ---
inline void __syncthreads(std::source_location where = std::source_location::current()) {
  polar::emulator::block_barrier(0, -1, 0, "__syncthreads", where);
}
inline int __syncthreads_count(int predicate, std::source_location where = std::source_location::current()) {
  return polar::emulator::block_barrier(0, -1, predicate != 0, "__syncthreads_count", where);
}
inline int __syncthreads_or(int predicate, std::source_location where = std::source_location::current()) {
  return polar::emulator::block_barrier(0, -1, predicate != 0, "__syncthreads_or", where) != 0;
}
inline int __syncthreads_and(int predicate, std::source_location where = std::source_location::current()) {
  return polar::emulator::block_barrier(0, -1, predicate == 0, "__syncthreads_and", where) == 0;
}
inline void __syncwarp(uint32_t mask = 0xffffffffu,
                       std::source_location where = std::source_location::current()) {
  polar::emulator::warp_collective(mask, nullptr, nullptr, "__syncwarp", where);
}
void __threadfence();
inline void __threadfence_block() {
  __threadfence();
}

// --- warp primitives ---
unsigned __activemask() = delete;  // says which lanes happen to be here: no program may depend on it

template <class T>
T __shfl_sync(uint32_t mask, T value, int source, int width = 32,
              std::source_location where = std::source_location::current()) {
  const auto lane = static_cast<int>(polar::emulator::current_thread->lane);
  return polar::emulator::shuffle(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), "__shfl_sync",
                                  where);
}
template <class T>
T __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = 32,
                 std::source_location where = std::source_location::current()) {
  const auto lane = static_cast<int>(polar::emulator::current_thread->lane);
  const int source = lane - static_cast<int>(delta);
  const bool outside = source < (lane & ~(width - 1));
  return polar::emulator::shuffle(mask, value, outside ? lane : source, "__shfl_up_sync", where);
}
template <class T>
T __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32,
                   std::source_location where = std::source_location::current()) {
  const auto lane = static_cast<int>(polar::emulator::current_thread->lane);
  const int source = lane + static_cast<int>(delta);
  const bool outside = source > (lane | (width - 1));
  return polar::emulator::shuffle(mask, value, outside ? lane : source, "__shfl_down_sync", where);
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int lane_mask, int width = 32,
                  std::source_location where = std::source_location::current()) {
  const auto lane = static_cast<int>(polar::emulator::current_thread->lane);
  const int source = lane ^ lane_mask;
  const bool outside = source > (lane | (width - 1));
  return polar::emulator::shuffle(mask, value, outside ? lane : source, "__shfl_xor_sync", where);
}
inline uint32_t __ballot_sync(uint32_t mask, int predicate,
                              std::source_location where = std::source_location::current()) {
  return polar::emulator::ballot(mask, predicate != 0, "__ballot_sync", where);
}
inline int __any_sync(uint32_t mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return polar::emulator::ballot(mask, predicate != 0, "__any_sync", where) != 0;
}
inline int __all_sync(uint32_t mask, int predicate,
                      std::source_location where = std::source_location::current()) {
  return polar::emulator::ballot(mask, predicate == 0, "__all_sync", where) == 0;
}
template <class T>
uint32_t __match_any_sync(uint32_t mask, T value,
                          std::source_location where = std::source_location::current()) {
  static_assert(std::is_integral_v<T>);
  return polar::emulator::match_any(mask, static_cast<uint64_t>(value), where);
}
#define POLAR_EMULATOR_REDUCE(name, operation)                                                   \
  template <class T>                                                                             \
  T name(uint32_t mask, T value, std::source_location where = std::source_location::current()) { \
    static_assert(std::is_same_v<T, int> || std::is_same_v<T, unsigned>);                        \
    return static_cast<T>(polar::emulator::reduce(mask, static_cast<uint32_t>(value),            \
                                                  polar::emulator::Reduction::operation,         \
                                                  std::is_signed_v<T>, where));                  \
  }
POLAR_EMULATOR_REDUCE(__reduce_add_sync, add)
POLAR_EMULATOR_REDUCE(__reduce_min_sync, minimum)
POLAR_EMULATOR_REDUCE(__reduce_max_sync, maximum)
POLAR_EMULATOR_REDUCE(__reduce_and_sync, bit_and)
POLAR_EMULATOR_REDUCE(__reduce_or_sync, bit_or)
POLAR_EMULATOR_REDUCE(__reduce_xor_sync, bit_xor)
#undef POLAR_EMULATOR_REDUCE

// --- launching ---
namespace polar::emulator {

struct LaunchConfig {
  dim3 grid, block;
  size_t shared_bytes;
  cudaStream_t stream;
  std::source_location where;
  LaunchConfig(dim3 grid_, dim3 block_, size_t shared_bytes_ = 0, cudaStream_t stream_ = nullptr,
               std::source_location where_ = std::source_location::current())
      : grid(grid_), block(block_), shared_bytes(shared_bytes_), stream(stream_), where(where_) {}
};

// A kernel and its arguments, called for every thread.
template <class... Parameters>
struct BoundKernel {
  void (*kernel)(Parameters...);
  std::tuple<std::decay_t<Parameters>...> arguments;
  static void run(const void* self) {
    const auto& bound = *static_cast<const BoundKernel*>(self);
    std::apply(bound.kernel, bound.arguments);
  }
  // Where each argument is, and how long.
  static void locate(const void* self, const void** where, size_t* bytes) {
    const auto& bound = *static_cast<const BoundKernel*>(self);
    const auto note_one = [&](const auto& argument) {
      *where++ = &argument;
      *bytes++ = sizeof(argument);
    };
    std::apply([&](const auto&... argument) { (note_one(argument), ...); }, bound.arguments);
  }
};

// A BoundKernel whose type is forgotten.
struct KernelCall {
  const void* kernel = nullptr;  // the function
  void (*run)(const void* bound) = nullptr;
  void (*locate)(const void* bound, const void** where, size_t* bytes) = nullptr;
  size_t parameters = 0;
  const void* bound = nullptr;
  size_t bytes = 0, alignment = 0;  // of *bound
};
// Copies the bound kernel and queues the launch.
cudaError_t queue_launch(const LaunchConfig& config, const KernelCall& call);
// Fails unless `pointer` is null or memory that the device can reach.
void check_pointer_argument(const void* pointer, int position, std::source_location where);

template <class... Parameters, class... Arguments>
cudaError_t device_launch(const LaunchConfig& config, void (*kernel)(Parameters...),
                          Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "the kernel has another number of parameters");
  using Bound = BoundKernel<Parameters...>;
  const Bound bound{kernel, {static_cast<std::decay_t<Parameters>>(std::forward<Arguments>(arguments))...}};
  int position = 0;
  const auto check = [&](const auto& argument) {
    ++position;
    if constexpr (std::is_pointer_v<std::decay_t<decltype(argument)>>)
      check_pointer_argument(argument, position, config.where);
  };
  std::apply([&](const auto&... argument) { (check(argument), ...); }, bound.arguments);
  return queue_launch(config, {reinterpret_cast<const void*>(kernel), &Bound::run, &Bound::locate,
                               sizeof...(Parameters), &bound, sizeof(Bound), alignof(Bound)});
}

}  // namespace polar::emulator
