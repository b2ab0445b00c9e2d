// The replacement of the runtime library: memory, copies, streams, events, the device.
#include <cmath>
#include <cstring>

#include "device_array.h"
#include "kernels/device.cuh"

namespace polar::kernels {

__global__ void set_kernel(float* to, float value) {
  to[threadIdx.x] = value;
}
__global__ void copy_kernel(const float* from, float* to) {
  to[threadIdx.x] = from[threadIdx.x];
}
__global__ void add_kernel(float* to, float value) {
  to[threadIdx.x] += value;
}

namespace {

using emulator::options;
using emulator::Order;
using emulator::test::DeviceArray;
using emulator::test::in_every_order;
using emulator::test::WithOptions;

cudaError_t set(float* to, float value, cudaStream_t stream) {
  return device_launch(LaunchConfig(1, 32, 0, stream), &set_kernel, to, value);
}
cudaError_t copy(const float* from, float* to, cudaStream_t stream) {
  return device_launch(LaunchConfig(1, 32, 0, stream), &copy_kernel, from, to);
}

// Two streams and an event.
class Streams : public testing::Test {
 protected:
  void SetUp() override {
    options().lazy_streams = true;
    ASSERT_EQ(cudaStreamCreateWithFlags(&first_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaStreamCreateWithPriority(&second_, cudaStreamNonBlocking, -1), cudaSuccess);
    ASSERT_EQ(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), cudaSuccess);
  }
  void TearDown() override {
    cudaEventDestroy(event_);
    cudaStreamDestroy(second_);
    cudaStreamDestroy(first_);
  }
  WithOptions restored_;
  cudaStream_t first_ = nullptr, second_ = nullptr;
  cudaEvent_t event_ = nullptr;
};

TEST(Runtime, MemoryIsPoisonedAndAccounted) {
  const WithOptions restored;
  options().memory_limit = size_t{1} << 20;
  size_t free_before = 0, free_after = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free_before, &total), cudaSuccess);
  {
    const DeviceArray<float> x(100);
    for (const float value : x.read()) EXPECT_TRUE(std::isnan(value));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(x.get()) % 256, 0u);
    ASSERT_EQ(cudaMemGetInfo(&free_after, &total), cudaSuccess);
    EXPECT_EQ(free_before - free_after, 400u);
    void* too_much = nullptr;
    EXPECT_EQ(cudaMalloc(&too_much, free_after + 1), cudaErrorMemoryAllocation);
    EXPECT_EQ(too_much, nullptr);
    EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
    ASSERT_EQ(cudaMalloc(&too_much, free_after), cudaSuccess);
    EXPECT_EQ(cudaFree(too_much), cudaSuccess);
  }
  ASSERT_EQ(cudaMemGetInfo(&free_after, &total), cudaSuccess);
  EXPECT_EQ(free_after, free_before);
  EXPECT_EQ(total, size_t{1} << 20);
  int on_stack = 0;
  EXPECT_EQ(cudaFree(&on_stack), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
}

TEST(Runtime, CopiesOfRows) {
  std::vector<float> from(12), back(6, -1.0f);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
  const DeviceArray<float> x(from);
  // Columns 1 and 2 of three rows of four.
  ASSERT_EQ(cudaMemcpy2D(back.data(), 8, x.get() + 1, 16, 8, 3, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(back, (std::vector<float>{1, 2, 5, 6, 9, 10}));
  ASSERT_EQ(cudaMemset(x.get() + 4, 0, 16), cudaSuccess);
  ASSERT_EQ(cudaMemcpy(x.get(), x.get() + 4, 8, cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(x.read(), (std::vector<float>{0, 0, 2, 3, 0, 0, 0, 0, 8, 9, 10, 11}));
  EXPECT_EQ(cudaMemcpy2D(back.data(), 4, x.get(), 16, 8, 3, cudaMemcpyDeviceToHost),
            cudaErrorInvalidPitchValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidPitchValue);
}

TEST(Runtime, Device) {
  cudaDeviceProp properties;
  ASSERT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_STREQ(properties.name, "emulated");
  EXPECT_EQ(properties.major, 9);
  int value = 0;
  ASSERT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
  EXPECT_EQ(value, properties.multiProcessorCount);
  ASSERT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0), cudaSuccess);
  EXPECT_EQ(value, 227 * 1024);
  EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidDevice);
  EXPECT_STREQ(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation");
  EXPECT_STREQ(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
}

TEST_F(Streams, DoNothingBeforeSomethingWaits) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMallocHost(&memory, 128), cudaSuccess);
  auto* pinned = static_cast<float*>(memory);
  const DeviceArray<float> x(32);
  pinned[0] = 1.0f;
  ASSERT_EQ(set(x.get(), 5.0f, first_), cudaSuccess);
  ASSERT_EQ(cudaMemcpyAsync(pinned, x.get(), 128, cudaMemcpyDeviceToHost, first_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event_, first_), cudaSuccess);
  EXPECT_EQ(pinned[0], 1.0f);
  EXPECT_EQ(cudaStreamQuery(second_), cudaSuccess);
  int asked = 1;
  while (cudaEventQuery(event_) == cudaErrorNotReady) ++asked;
  EXPECT_EQ(asked, 4);
  EXPECT_EQ(pinned[0], 5.0f);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(Streams, PageableMemoryIsReadAtOnceAndWrittenBeforeTheCallReturns) {
  const DeviceArray<float> x(32);
  std::vector<float> values(32, 3.0f), back(32);
  ASSERT_EQ(cudaMemcpyAsync(x.get(), values.data(), 128, cudaMemcpyHostToDevice, first_), cudaSuccess);
  values.assign(32, 4.0f);
  ASSERT_EQ(cudaMemcpyAsync(back.data(), x.get(), 128, cudaMemcpyDeviceToHost, first_), cudaSuccess);
  EXPECT_EQ(back[31], 3.0f);
}

TEST_F(Streams, PinnedMemoryIsReadWhenTheStreamComesToIt) {
  void* memory = nullptr;
  ASSERT_EQ(cudaHostAlloc(&memory, 128, cudaHostAllocDefault), cudaSuccess);
  auto* pinned = static_cast<float*>(memory);
  std::fill(pinned, pinned + 32, 3.0f);
  const DeviceArray<float> x(32);
  ASSERT_EQ(cudaMemcpyAsync(x.get(), pinned, 128, cudaMemcpyHostToDevice, first_), cudaSuccess);
  std::fill(pinned, pinned + 32, 4.0f);  // too early: the copy reads this
  ASSERT_EQ(cudaStreamSynchronize(first_), cudaSuccess);
  EXPECT_EQ(x.read()[0], 4.0f);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

TEST_F(Streams, EventsOrderThem) {
  in_every_order([this] {
    const DeviceArray<float> x(32), y(32);
    ASSERT_EQ(set(x.get(), 5.0f, first_), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(event_, first_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(second_, event_, 0), cudaSuccess);
    ASSERT_EQ(copy(x.get(), y.get(), second_), cudaSuccess);
    ASSERT_EQ(set(x.get(), 6.0f, second_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(second_), cudaSuccess);
    EXPECT_EQ(y.read()[0], 5.0f);
    EXPECT_EQ(x.read()[0], 6.0f);
  });
}

// second_ waits for third, which waits for first_: whichever the random order lets get on meanwhile, nobody
// starts what is being waited for further out a second time.
TEST_F(Streams, ChainsOfEventsInRandomOrder) {
  options().order = Order::random;
  cudaStream_t third = nullptr;
  cudaEvent_t of_third = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&third, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaEventCreateWithFlags(&of_third, cudaEventDisableTiming), cudaSuccess);
  for (int i = 0; i < 200; ++i) {
    const DeviceArray<float> x(32), y(32), z(32);
    for (const float value : {1.0f, 2.0f, 3.0f}) ASSERT_EQ(set(x.get(), value, first_), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(event_, first_), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(third, event_, 0), cudaSuccess);
    ASSERT_EQ(copy(x.get(), y.get(), third), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(of_third, third), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(second_, of_third, 0), cudaSuccess);
    ASSERT_EQ(copy(y.get(), z.get(), second_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(i % 2 == 0 ? third : second_), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    ASSERT_EQ(z.read()[0], 3.0f);
  }
  EXPECT_EQ(cudaEventDestroy(of_third), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(third), cudaSuccess);
}

TEST_F(Streams, TheDefaultStreamWaitsForBlockingStreamsAndTheyForIt) {
  cudaStream_t blocking = nullptr;
  ASSERT_EQ(cudaStreamCreate(&blocking), cudaSuccess);
  in_every_order([&] {
    const DeviceArray<float> x(32), y(32);
    ASSERT_EQ(set(x.get(), 1.0f, blocking), cudaSuccess);
    ASSERT_EQ(copy(x.get(), y.get(), nullptr), cudaSuccess);
    ASSERT_EQ(set(x.get(), 2.0f, blocking), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(blocking), cudaSuccess);
    EXPECT_EQ(y.read()[0], 1.0f);
    EXPECT_EQ(x.read()[0], 2.0f);
  });
  ASSERT_EQ(cudaStreamDestroy(blocking), cudaSuccess);
}

TEST_F(Streams, EventsTakeTime) {
  cudaEvent_t start = nullptr, end = nullptr;
  ASSERT_EQ(cudaEventCreate(&start), cudaSuccess);
  ASSERT_EQ(cudaEventCreate(&end), cudaSuccess);
  const DeviceArray<float> x(32);
  ASSERT_EQ(cudaEventRecord(start, first_), cudaSuccess);
  ASSERT_EQ(set(x.get(), 1.0f, first_), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(end, first_), cudaSuccess);
  float milliseconds = -1.0f;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaErrorNotReady);
  ASSERT_EQ(cudaEventSynchronize(end), cudaSuccess);
  ASSERT_EQ(cudaEventElapsedTime(&milliseconds, start, end), cudaSuccess);
  EXPECT_GT(milliseconds, 0.0f);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, start, event_), cudaErrorInvalidResourceHandle);
  cudaGetLastError();
  cudaEventDestroy(start);
  cudaEventDestroy(end);
}

}  // namespace
}  // namespace polar::kernels
