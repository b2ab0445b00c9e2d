// Collectives of a warp: shuffles, votes, matches, reductions, also of a part of the warp.
#include <numeric>

#include "device_array.h"
#include "warp_kernels.cuh"

namespace polar::kernels {
namespace {

using emulator::test::DeviceArray;
using emulator::test::in_every_order;

TEST(Warp, Shuffles) {
  in_every_order([] {
    const DeviceArray<Shuffled> out(32);
    ASSERT_EQ(device_launch(LaunchConfig(1, 32), &shuffle_kernel, out.get()), cudaSuccess);
    const std::vector<Shuffled> got = out.read();
    for (int i = 0; i < 32; ++i) {
      const Shuffled& lane = got[static_cast<size_t>(i)];
      EXPECT_EQ(lane.from_three, 30);
      EXPECT_EQ(lane.up, 10 * (i < 2 ? i : i - 2));
      EXPECT_EQ(lane.down, 10 * (i > 26 ? i : i + 5));
      EXPECT_EQ(lane.exclusive_or, 10 * (i ^ 9));
      EXPECT_EQ(lane.up_in_eight, 10 * (i % 8 < 3 ? i : i - 3));
      EXPECT_EQ(lane.down_in_eight, 10 * (i % 8 > 4 ? i : i + 3));
      EXPECT_EQ(lane.broadcast_in_eight, 10 * (i / 8 * 8 + 1));
    }
  });
}

TEST(Warp, PartsOfAWarpGoTheirOwnWay) {
  in_every_order([] {
    const DeviceArray<float> out(32);
    ASSERT_EQ(device_launch(LaunchConfig(1, 32), &halves_kernel, out.get()), cudaSuccess);
    const std::vector<float> got = out.read();
    for (size_t i = 0; i < 32; ++i) EXPECT_EQ(got[i], i % 2 == 1 ? 256.0f : 240.0f);
  });
}

TEST(Warp, VotesMatchesAndReductions) {
  in_every_order([] {
    const DeviceArray<Voted> out(32);
    ASSERT_EQ(device_launch(LaunchConfig(1, 32), &vote_kernel, out.get()), cudaSuccess);
    const std::vector<Voted> got = out.read();
    for (uint32_t i = 0; i < 32; ++i) {
      EXPECT_EQ(got[i].ballot, 0x49249249u);
      EXPECT_EQ(got[i].any, 1);
      EXPECT_EQ(got[i].all, 0);
      EXPECT_EQ(got[i].match, i / 5 == 6 ? 0xc0000000u : 0x1fu << (i / 5 * 5));
      EXPECT_EQ(got[i].sum, 496u);
      EXPECT_EQ(got[i].smallest, 7u);
      EXPECT_EQ(got[i].signed_largest, -69);
      EXPECT_EQ(got[i].bits, 0u);
    }
  });
}

TEST(Warp, LanesThatDoNotExistAreNotWaitedFor) {
  in_every_order([] {
    const DeviceArray<int> out(40);
    ASSERT_EQ(device_launch(LaunchConfig(1, 40), &ragged_kernel, out.get()), cudaSuccess);
    const std::vector<int> got = out.read();
    for (int i = 0; i < 40; ++i) EXPECT_EQ(got[static_cast<size_t>(i)], i ^ 1);
  });
}

}  // namespace
}  // namespace polar::kernels
