// A block and its grid: indices, barriers, shared memory, launches.
#include "block_kernels.cuh"
#include "device_array.h"

namespace polar::kernels {
namespace {

using emulator::options;
using emulator::test::DeviceArray;
using emulator::test::in_every_order;
using emulator::test::WithOptions;

TEST(Block, EveryThreadOfEveryBlockRuns) {
  for (const int workers : {1, 2, 3}) {
    const WithOptions restored;
    options().workers = workers;
    in_every_order([] {
      const DeviceArray<uint32_t> out(24 * 60);
      ASSERT_EQ(device_launch(LaunchConfig(dim3(2, 3, 4), dim3(5, 4, 3)), &indices_kernel, out.get()),
                cudaSuccess);
      const std::vector<uint32_t> got = out.read();
      for (uint32_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], i / 60 * 1000 + i % 60);
    });
  }
}

TEST(Block, BarriersOrderSharedMemory) {
  in_every_order([] {
    const DeviceArray<int> out(96);
    ASSERT_EQ(device_launch(LaunchConfig(1, 96), &ring_kernel, out.get(), 7), cudaSuccess);
    const std::vector<int> got = out.read();
    for (int i = 0; i < 96; ++i) EXPECT_EQ(got[static_cast<size_t>(i)], (i + 7) % 96);
  });
}

TEST(Block, BarriersCount) {
  in_every_order([] {
    const DeviceArray<int> out(64);
    ASSERT_EQ(device_launch(LaunchConfig(1, 64), &counting_kernel, out.get()), cudaSuccess);
    for (const int value : out.read()) EXPECT_EQ(value, 1310);
  });
}

TEST(Block, NamedBarriers) {
  in_every_order([] {
    const DeviceArray<int> out(64);
    ASSERT_EQ(device_launch(LaunchConfig(1, 128), &named_barriers_kernel, out.get()), cudaSuccess);
    const std::vector<int> got = out.read();
    for (int i = 0; i < 32; ++i) {
      EXPECT_EQ(got[static_cast<size_t>(i)], i + 1);
      EXPECT_EQ(got[static_cast<size_t>(i + 32)], i + 97);
    }
  });
}

TEST(Block, SharedMemory) {
  constexpr int kBytes = 100 * 1024;
  const DeviceArray<uint64_t> out(5);
  EXPECT_EQ(device_launch(LaunchConfig(1, 32, kBytes), &shared_kernel, out.get(), kBytes),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(device_allow_dynamic_shared(&shared_kernel, 228 * 1024), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  ASSERT_EQ(device_allow_dynamic_shared(&shared_kernel, kBytes), cudaSuccess);
  ASSERT_EQ(device_launch(LaunchConfig(1, 32, kBytes), &shared_kernel, out.get(), kBytes), cudaSuccess);
  EXPECT_EQ(out.read(), (std::vector<uint64_t>{0, 0, 60, 40, 20}));
}

TEST(Block, LastBlockSumsUp) {
  for (const int workers : {1, 2}) {
    const WithOptions restored;
    options().workers = workers;
    in_every_order([] {
      const DeviceArray<float> parts(9), total(1);
      const DeviceArray<unsigned> finished(std::vector<unsigned>{0});
      ASSERT_EQ(
          device_launch(LaunchConfig(9, 32), &last_block_kernel, parts.get(), finished.get(), total.get()),
          cudaSuccess);
      EXPECT_EQ(total.read()[0], 36.0f);
    });
  }
}

TEST(Block, ArgumentsAreConvertedAndCopied) {
  const DeviceArray<float> out(70);
  Parameters parameters{0.5, 3};
  ASSERT_EQ(device_launch(LaunchConfig(3, 32), &parameters_kernel, out.get(), parameters, 70), cudaSuccess);
  EXPECT_EQ(out.read()[69], 37.5f);
}

TEST(Block, LaunchesThatDoNotFitAreErrors) {
  const DeviceArray<uint32_t> out(1);
  const auto launch = [&](dim3 grid, dim3 block) {
    return device_launch(LaunchConfig(grid, block), &indices_kernel, out.get());
  };
  EXPECT_EQ(launch(1, 1025), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(1, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(1, dim3(2, 2, 65)), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(dim3(1, 65536), 32), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch(0, 32), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace polar::kernels
