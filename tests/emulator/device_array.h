// What the tests of the emulator share: arrays in the emulated device's memory, and options for the time of a
// test.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <vector>

#include "kernels/emulator/options.h"

namespace polar::emulator::test {

// Device memory that goes with its owner.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count) : count_(count) {
    void* memory = nullptr;
    EXPECT_EQ(cudaMalloc(&memory, count * sizeof(T)), cudaSuccess);
    memory_ = static_cast<T*>(memory);
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    EXPECT_EQ(cudaMemcpy(memory_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(memory_); }

  T* get() const { return memory_; }
  std::vector<T> read() const {
    std::vector<T> values(count_);
    EXPECT_EQ(cudaMemcpy(values.data(), memory_, count_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

 private:
  size_t count_;
  T* memory_ = nullptr;
};

// Until the end of the scope, the emulator's default options (whatever the environment says), and what is
// changed of them.
class WithOptions {
 public:
  WithOptions() : before_(options()) {
    options() = {};
    options().capability = before_.capability;  // what the program's kernels were made for
  }
  WithOptions(const WithOptions&) = delete;
  WithOptions& operator=(const WithOptions&) = delete;
  ~WithOptions() { options() = before_; }

 private:
  Options before_;
};

// Calls check() under every thread order: forward, reverse, and random with some seeds.
template <class Check>
void in_every_order(Check check) {
  const Order order_before = options().order;
  const uint32_t seed_before = options().seed;
  for (const Order order : {Order::forward, Order::reverse, Order::random})
    for (uint32_t seed = 0; seed < (order == Order::random ? 4u : 1u); ++seed) {
      SCOPED_TRACE(testing::Message() << "order " << static_cast<int>(order) << " seed " << seed);
      options().order = order;
      options().seed = seed;
      check();
    }
  options().order = order_before;
  options().seed = seed_before;
}

}  // namespace polar::emulator::test
