// How the emulator runs. Set from the environment when the process starts; tests may change it between
// launches.
#pragma once

#include <cstddef>
#include <cstdint>

namespace polar::emulator {

// In which order the threads of a block (and the blocks, and lazy streams) go on where CUDA leaves it open.
enum class Order : uint8_t { forward, reverse, random };

struct Options {
  Order order = Order::forward;  // EMULATOR_ORDER=forward|reverse|random
  uint32_t seed = 0;             // EMULATOR_SEED: of the random order
  int workers = 1;               // EMULATOR_WORKERS: operating-system threads that share the blocks of a grid
  bool lazy_streams = false;     // EMULATOR_LAZY=1: streams do nothing before something waits for them
  bool strict_barriers = true;   // a barrier is one place in the source that all threads reach
  int capability = 90;           // EMULATOR_CAPABILITY=80|90: compute capability of the device, times 10
  size_t memory_limit =
      size_t{8} << 30;  // EMULATOR_MEMORY, in MiB: device memory beyond which cudaMalloc fails
};

Options& options();

// Whether the thread sanitizer watches the kernels: it finds races whatever the order of the threads.
bool watches_for_races();

}  // namespace polar::emulator
