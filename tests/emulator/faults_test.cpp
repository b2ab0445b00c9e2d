// Planted faults: each has to be reported, or to give a result that a test cannot take for right.
#include <cmath>
#include <numeric>
#include <set>

#include "device_array.h"
#include "kernels/device.cuh"
#include "kernels/ptx.cuh"
#include "kernels/reduce.cuh"

namespace polar::kernels {

__global__ void divergent_barrier(float* out) {
  if (threadIdx.x < 16)
    __syncthreads();
  else {
    out[threadIdx.x] = 1.0f;
    __syncthreads();
  }
}
__global__ void early_exit(float* out, int n) {
  if (static_cast<int>(threadIdx.x) >= n) return;
  __syncthreads();
  out[threadIdx.x] = 1.0f;
}
__global__ void barrier_in_one_warp(float* out) {
  if (threadIdx.x >= 32) named_barrier_sync(1, 64);
  out[threadIdx.x] = 1.0f;
}
__global__ void half_warp_shuffle(float* out) {
  auto value = static_cast<float>(threadIdx.x);
  if (threadIdx.x < 16) value = __shfl_xor_sync(kFullWarp, value, 1);
  out[threadIdx.x] = value;
}
__global__ void shuffle_from_outside(float* out) {
  auto value = static_cast<float>(threadIdx.x);
  if (threadIdx.x < 16) value = __shfl_xor_sync(0x0000ffffu, value, 16);
  out[threadIdx.x] = value;
}
__global__ void shuffle_without_its_lane(float* out) {
  out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1.0f, 1);
}
__global__ void diverged_warp(float* out) {
  if (threadIdx.x < 16)
    out[threadIdx.x] = __shfl_xor_sync(kFullWarp, 1.0f, 1);
  else
    __syncwarp();
}
__global__ void uninitialised_shared(float* out) {
  DEVICE_SHARED(float, slots, [32]);
  if (threadIdx.x < 31) slots[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = slots[threadIdx.x];
}
__global__ void no_shared_memory(float* out) {
  DEVICE_DYNAMIC_SHARED(memory);
  out[threadIdx.x] = static_cast<float>(memory[threadIdx.x]);
}
__global__ void missing_syncwarp(float* out) {
  DEVICE_SHARED(float, slots, [32]);
  slots[threadIdx.x] = static_cast<float>(threadIdx.x);
  out[threadIdx.x] = slots[threadIdx.x ^ 1];
}
__global__ void missing_async_wait(const float* from, float* out) {
  DEVICE_SHARED(float, slots, [32 * 4]);
  cp_async16(slots + threadIdx.x * 4, from + threadIdx.x * 4);
  cp_async_commit();
  out[threadIdx.x] = slots[threadIdx.x * 4];
  cp_async_wait<0>();
}
// Two groups of copies are under way and the second is needed, but the wait leaves one of them open.
__global__ void weak_async_wait(const float* from, float* out) {
  DEVICE_SHARED(float, slots, [2][32 * 4]);
  for (int buffer = 0; buffer < 2; ++buffer) {
    cp_async16(slots[buffer] + threadIdx.x * 4, from + buffer * 128 + threadIdx.x * 4);
    cp_async_commit();
  }
  cp_async_wait<1>();  // should be <0>
  __syncthreads();
  out[threadIdx.x] = slots[0][threadIdx.x * 4];
  out[32 + threadIdx.x] = slots[1][threadIdx.x * 4];
  cp_async_wait<0>();
}
// A copy refills the buffer while slower warps still read what was in it.
__global__ void buffer_refilled_too_early(const float* from, float* out) {
  DEVICE_SHARED(float, slots, [64 * 4]);
  float sum = 0.0f;
  for (int round = 0; round < 2; ++round) {
    cp_async16(slots + threadIdx.x * 4, from + round * 256 + threadIdx.x * 4);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    for (int i = 0; i < 256; ++i) sum += slots[i];
    // missing: __syncthreads()
  }
  out[threadIdx.x] = sum;
}
__global__ void forgotten_async_copy(const float* from) {
  DEVICE_SHARED(float, slots, [32 * 4]);
  cp_async16(slots + threadIdx.x * 4, from + threadIdx.x * 4);
}
__global__ void missing_barrier_after_wait(const float* from, float* out) {
  DEVICE_SHARED(float, slots, [32 * 4]);
  cp_async16(slots + threadIdx.x * 4, from + threadIdx.x * 4);
  cp_async_commit();
  cp_async_wait<0>();
  out[threadIdx.x] = slots[(31 - threadIdx.x) * 4];
}
__global__ void misaligned_async_copy(const float* from) {
  DEVICE_SHARED(float, slots, [32 * 4]);
  cp_async16(slots + threadIdx.x * 4, from + 1);
  cp_async_commit();
  cp_async_wait<0>();
}
__global__ void misaligned_ldmatrix(uint32_t* out) {
  DEVICE_SHARED(uint16_t, slots, [512]);
  uint32_t words[4];
  ldmatrix_x4(words, slots + threadIdx.x * 4);
  out[threadIdx.x] = words[0];
}
// The other warp's rows are read before it is known to have written them.
__global__ void ldmatrix_before_the_barrier(uint32_t* out) {
  DEVICE_SHARED(uint32_t, tiles, [2][128]);
  const auto lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (uint32_t i = 0; i < 4; ++i) tiles[warp][lane * 4 + i] = 1;
  // missing: __syncthreads()
  uint32_t words[4];
  ldmatrix_x4(words, tiles[1 - warp] + lane * 4);
  out[threadIdx.x] = words[0];
}
// The scratch is written again while slower warps still read it: only a warp that runs ahead shows it.
__global__ void race_of_a_fast_warp(float* out) {
  DEVICE_SHARED(float, scratch, [8]);
  for (int round = 0; round < 2; ++round) {
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = static_cast<float>(round + 1);
    __syncthreads();
    float sum = 0.0f;
    for (int warp = 0; warp < 8; ++warp) sum += scratch[warp];
    out[round * 256 + static_cast<int>(threadIdx.x)] = sum;
    // missing: __syncthreads()
  }
}
// Thread 64 overwrites what thread 0 reads. After a barrier thread 0 is among the first to go on both in
// forward order and in reverse order (where it came last and did not have to wait), so that both look right.
__global__ void race_in_random_order(float* data, float* out) {
  __syncthreads();
  if (threadIdx.x == 0) out[0] = data[64];
  if (threadIdx.x == 64) data[64] = -1.0f;  // missing: __syncthreads() before
}
__global__ void one_too_many(float* out) {
  DEVICE_SHARED(float, slots, [32]);
  slots[threadIdx.x + 1] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = slots[threadIdx.x];
}
__global__ void one_too_many_dynamic(float* out) {
  DEVICE_DYNAMIC_SHARED(memory);
  auto* slots = reinterpret_cast<float*>(memory);
  slots[threadIdx.x + 1] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = slots[threadIdx.x];
}
__global__ void read_four(const float* from, float* out, int offset) {
  const float4 value = *reinterpret_cast<const float4*>(from + offset + threadIdx.x * 4);
  out[threadIdx.x] = value.x + value.w;
}
// One float more than fits beside the dynamic shared memory.
__global__ void more_shared_than_there_is(float* out) {
  DEVICE_SHARED(float, slots, [32]);
  slots[threadIdx.x] = 1.0f;
  __syncthreads();
  out[threadIdx.x] = slots[threadIdx.x];
}
// Blocks add to one sum by atomics: nothing is lost, but the bits depend on which block comes first. There
// is no atomicAdd of floats here at all, so that kernels cannot do it by the way: only like this.
template <class T>
concept AddsAtomically = requires(T* sum, T term) {
  atomicAdd(sum, term);
};
static_assert(AddsAtomically<int> && !AddsAtomically<float> && !AddsAtomically<double>);
__global__ void add_atomically_across_blocks(unsigned* sum, const float* from) {
  if (threadIdx.x != 0) return;
  const float term = 1.0f / (1.0f + from[blockIdx.x]);
  for (unsigned seen = atomicCAS(sum, 0u, 0u);;) {
    const unsigned found = atomicCAS(sum, seen, __float_as_uint(__uint_as_float(seen) + term));
    if (found == seen) return;
    seen = found;
  }
}
// Blocks add to one sum without an atomic.
__global__ void add_across_blocks(float* sum, const float* from) {
  if (threadIdx.x == 0) sum[0] = sum[0] + from[blockIdx.x];
}
__global__ void fill_kernel(float* to, float value) {
  to[threadIdx.x] = value;
}
__global__ void copy_values_kernel(const float* from, float* to) {
  to[threadIdx.x] = from[threadIdx.x];
}
__global__ void local_only_kernel(const float* from) {
  if (from[threadIdx.x] > 1e30f) printf("large\n");
}

namespace {

using emulator::options;
using emulator::Order;
using emulator::test::DeviceArray;
using emulator::test::WithOptions;

class Faults : public testing::Test {
 protected:
  Faults() {
    std::vector<float> numbers(512);
    std::iota(numbers.begin(), numbers.end(), 0.0f);
    cudaMemcpy(numbers_.get(), numbers.data(), numbers.size() * sizeof(float), cudaMemcpyHostToDevice);
  }
  const WithOptions defaults_;
  const DeviceArray<float> numbers_{512}, out_{512};
};

TEST_F(Faults, DivergentBarrier) {
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &divergent_barrier, out_.get()),
               "divergent barrier: __syncthreads at faults_test.cpp:[0-9]+ while other threads wait(.|\n)*"
               "in block .0,0,0. thread .16,0,0.(.|\n)*launched at faults_test.cpp");
}
TEST_F(Faults, EarlyExitBeforeABarrier) {
  EXPECT_DEATH(device_launch(LaunchConfig(1, 64), &early_exit, out_.get(), 40),
               "thread exited while others wait at __syncthreads");
  options().order = Order::reverse;
  EXPECT_DEATH(device_launch(LaunchConfig(1, 64), &early_exit, out_.get(), 40),
               "__syncthreads at faults_test.cpp:[0-9]+ after 24 threads have exited");
}
TEST_F(Faults, BarrierThatTooFewReach) {
  EXPECT_DEATH(device_launch(LaunchConfig(1, 64), &barrier_in_one_warp, out_.get()),
               "DEAD-LOCK: no thread of block .0,0,0. can go on; kernel launched at faults_test.cpp:[0-9]+\n"
               "  threads 0-31: exited\n"
               "  threads 32-63: wait at bar.sync, faults_test.cpp:[0-9]+");
}
TEST_F(Faults, HalfWarpShuffle) {
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &half_warp_shuffle, out_.get()),
               "DEAD-LOCK(.|\n)*threads 16-31: exited\n"
               "  threads 0-15: wait at __shfl_xor_sync mask ffffffff, faults_test.cpp:[0-9]+");
}
TEST_F(Faults, ShuffleFromALaneOutsideTheMask) {
  EXPECT_DEATH(
      device_launch(LaunchConfig(1, 32), &shuffle_from_outside, out_.get()),
      "the shuffle reads lane 1[0-9]|the shuffle reads lane [23][0-9], which is not in mask 0000ffff");
}
TEST_F(Faults, ShuffleByALaneOutsideTheMask) {
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &shuffle_without_its_lane, out_.get()),
               "the calling lane 16 is not in mask 0000ffff");
}
TEST_F(Faults, DivergedWarp) {
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &diverged_warp, out_.get()),
               "meets another collective of the same mask: the warp has diverged");
}
TEST_F(Faults, UninitialisedSharedMemory) {
  ASSERT_EQ(device_launch(LaunchConfig(1, 32), &uninitialised_shared, out_.get()), cudaSuccess);
  EXPECT_TRUE(std::isnan(out_.read()[31]));
}
TEST_F(Faults, UninitialisedDeviceMemory) {
  const DeviceArray<float> never_written(32);
  ASSERT_EQ(device_launch(LaunchConfig(1, 32), &copy_values_kernel, never_written.get(), out_.get()),
            cudaSuccess);
  for (size_t i = 0; i < 32; ++i) EXPECT_TRUE(std::isnan(out_.read()[i])) << i;
}
// What tests/cuda checks of every operation, here of one that does not keep the promise.
TEST_F(Faults, AccumulationAcrossBlocksInTheOrderOfTheirArrival) {
  std::set<float> sums;
  emulator::test::in_every_order([&] {
    const DeviceArray<unsigned> sum(std::vector<unsigned>{0});
    ASSERT_EQ(device_launch(LaunchConfig(512, 32), &add_atomically_across_blocks, sum.get(), numbers_.get()),
              cudaSuccess);
    sums.insert(__uint_as_float(sum.read()[0]));
    EXPECT_NEAR(*sums.begin(), 6.8165f, 1e-3f);
    EXPECT_NEAR(*sums.rbegin(), 6.8165f, 1e-3f);
  });
  EXPECT_GT(sums.size(), 1u) << "all orders of blocks gave the same bits";
}
TEST_F(Faults, StaticAndDynamicSharedMemoryTogetherDoNotFit) {
  constexpr size_t kAll = size_t{48} << 10;
  const auto launch = [&](size_t dynamic) {
    return device_launch(LaunchConfig(1, 32, dynamic), &more_shared_than_there_is, out_.get());
  };
  EXPECT_EQ(launch(kAll - 128), cudaSuccess);
  EXPECT_DEATH(launch(kAll - 124),
               "128 bytes of static and 49028 of dynamic shared memory, at most 49152(.|\n)*"
               "launched at faults_test.cpp");
}
TEST_F(Faults, SharedMemoryThatWasNotAskedFor) {
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &no_shared_memory, out_.get()),
               "dynamic shared memory, but the launch asked for none");
}
TEST_F(Faults, MissingWaitForACopy) {
  ASSERT_EQ(device_launch(LaunchConfig(1, 32), &missing_async_wait, numbers_.get(), out_.get()), cudaSuccess);
  EXPECT_TRUE(std::isnan(out_.read()[5]));
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &forgotten_async_copy, numbers_.get()),
               "thread exited with 1 cp.async that it has not waited for");
}
TEST_F(Faults, WaitForACopyThatIsTooWeak) {
  ASSERT_EQ(device_launch(LaunchConfig(1, 32), &weak_async_wait, numbers_.get(), out_.get()), cudaSuccess);
  const std::vector<float> got = out_.read();
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(got[i], static_cast<float>(4 * i));
    EXPECT_TRUE(std::isnan(got[32 + i])) << i << ": the copy landed before it was waited for";
  }
}
TEST_F(Faults, Misalignment) {
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &misaligned_async_copy, numbers_.get()),
               "cp.async at faults_test.cpp:[0-9]+: the source is not 16-byte aligned");
  const DeviceArray<uint32_t> words(32);
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &misaligned_ldmatrix, words.get()),
               "ldmatrix: the row address of lane 1 is not 16-byte aligned");
}
TEST_F(Faults, MissingEventBetweenStreams) {
  options().lazy_streams = true;
  cudaStream_t first = nullptr, second = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), cudaSuccess);
  const DeviceArray<float> data(32);
  ASSERT_EQ(device_launch(LaunchConfig(1, 32, 0, first), &fill_kernel, data.get(), 1.0f), cudaSuccess);
  ASSERT_EQ(device_launch(LaunchConfig(1, 32, 0, second), &copy_values_kernel, data.get(), out_.get()),
            cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(second), cudaSuccess);
  EXPECT_TRUE(std::isnan(out_.read()[0]));
  ASSERT_EQ(cudaStreamDestroy(first), cudaSuccess);
  ASSERT_EQ(cudaStreamDestroy(second), cudaSuccess);
}
TEST_F(Faults, HostPointerAsArgument) {
  const std::vector<float> on_host(32);
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &local_only_kernel, on_host.data()),
               "argument 1 of the kernel, 0x[0-9a-f]+, is not device memory");
  EXPECT_DEATH(cudaMemset(const_cast<float*>(on_host.data()), 0, 4),
               "the destination 0x[0-9a-f]+ is not device");
}
TEST_F(Faults, FreedMemoryAsArgument) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 128), cudaSuccess);
  ASSERT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &local_only_kernel, static_cast<float*>(memory)),
               "is not device memory");
  EXPECT_EQ(cudaFree(memory), cudaErrorInvalidValue);
}
TEST_F(Faults, CopyBeyondTheEnd) {
  std::vector<float> values(513);
  EXPECT_DEATH(cudaMemcpy(values.data(), numbers_.get(), 513 * 4, cudaMemcpyDeviceToHost),
               "cudaMemcpy: 2052 bytes at offset 0 of a source of 2048 bytes");
  EXPECT_DEATH(cudaMemcpy(numbers_.get(), values.data(), 4, cudaMemcpyDeviceToHost), "is device memory");
}

#if defined(EMULATOR_TSAN)
TEST_F(Faults, RacesThatTheThreadSanitizerSees) {
  const std::string report = "data race(.|\n)*faults_test.cpp:[0-9]+";
  EXPECT_DEATH(device_launch(LaunchConfig(8, 32), &add_across_blocks, out_.get(), numbers_.get()), report);
  EXPECT_DEATH(device_launch(LaunchConfig(1, 256), &race_in_random_order, numbers_.get(), out_.get()),
               report);
  EXPECT_DEATH(device_launch(LaunchConfig(1, 64), &race_of_a_fast_warp, out_.get()), report);
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &missing_syncwarp, out_.get()), report);
  EXPECT_DEATH(device_launch(LaunchConfig(1, 64), &buffer_refilled_too_early, numbers_.get(), out_.get()),
               report);
  const DeviceArray<uint32_t> words(64);
  EXPECT_DEATH(device_launch(LaunchConfig(1, 64), &ldmatrix_before_the_barrier, words.get()), report);
}
#else
TEST_F(Faults, MissingSyncwarp) {
  ASSERT_EQ(device_launch(LaunchConfig(1, 32), &missing_syncwarp, out_.get()), cudaSuccess);
  EXPECT_TRUE(std::isnan(out_.read()[0]));
}
TEST_F(Faults, MissingBarrierAfterTheWaitForACopy) {
  ASSERT_EQ(device_launch(LaunchConfig(1, 32), &missing_barrier_after_wait, numbers_.get(), out_.get()),
            cudaSuccess);
  EXPECT_TRUE(std::isnan(out_.read()[0]));
}
TEST_F(Faults, ScratchUsedAgainTooEarly) {
  ASSERT_EQ(device_launch(LaunchConfig(1, 256), &race_of_a_fast_warp, out_.get()), cudaSuccess);
  const std::vector<float> sums = out_.read();
  EXPECT_GT(std::count_if(sums.begin(), sums.begin() + 256, [](float sum) { return sum != 8.0f; }), 0);
}
TEST_F(Faults, MissingBarrierBeforeLdmatrix) {
  const DeviceArray<uint32_t> words(64);
  ASSERT_EQ(device_launch(LaunchConfig(1, 64), &ldmatrix_before_the_barrier, words.get()), cudaSuccess);
  const std::vector<uint32_t> got = words.read();
  EXPECT_NE(std::count(got.begin(), got.end(), 1u), 64);
}
TEST_F(Faults, BufferRefilledTooEarly) {
  ASSERT_EQ(device_launch(LaunchConfig(1, 64), &buffer_refilled_too_early, numbers_.get(), out_.get()),
            cudaSuccess);
  const std::vector<float> sums = out_.read();
  const auto right = static_cast<float>(511 * 256);
  EXPECT_GT(std::count_if(sums.begin(), sums.begin() + 64, [&](float sum) { return !(sum == right); }), 0);
}
TEST_F(Faults, RaceThatOnlyRandomOrdersShow) {
  const auto wrong = [this] {
    const DeviceArray<float> data(numbers_.read());
    EXPECT_EQ(device_launch(LaunchConfig(1, 256), &race_in_random_order, data.get(), out_.get()),
              cudaSuccess);
    return out_.read()[0] != 64.0f;
  };
  for (const Order order : {Order::forward, Order::reverse}) {
    options().order = order;
    EXPECT_FALSE(wrong());
  }
  options().order = Order::random;
  int seeds = 0;
  for (options().seed = 0; options().seed < 16; ++options().seed) seeds += wrong() ? 1 : 0;
  EXPECT_GT(seeds, 2);
}
#endif

#if defined(__SANITIZE_ADDRESS__)
TEST_F(Faults, OverrunsThatTheSanitizersSee) {
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &one_too_many, out_.get()),
               "index 32 out of bounds|heap-buffer-overflow");
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32, 128), &one_too_many_dynamic, out_.get()),
               "heap-buffer-overflow");
  const DeviceArray<float> ragged(std::vector<float>(130, 0.0f));
  EXPECT_DEATH(device_launch(LaunchConfig(1, 33), &read_four, ragged.get(), out_.get(), 0),
               "heap-buffer-overflow");
}
TEST_F(Faults, MisalignmentThatTheSanitizerSees) {
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &read_four, numbers_.get(), out_.get(), 1),
               "misaligned address");
}
#endif

}  // namespace
}  // namespace polar::kernels
