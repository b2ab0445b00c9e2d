// Collectives of a warp: shuffles, votes, matches, reductions, also of a part of the warp.
#include <numeric>

#include "device_array.h"
#include "kernels/device.cuh"

namespace polar::kernels {

struct Shuffled {
  int from_three, up, down, exclusive_or, up_in_eight, down_in_eight, broadcast_in_eight;
};
__global__ void shuffle_kernel(Shuffled* out) {
  const int value = static_cast<int>(threadIdx.x) * 10;
  Shuffled mine;
  mine.from_three = __shfl_sync(0xffffffffu, value, 3);
  mine.up = __shfl_up_sync(0xffffffffu, value, 2);
  mine.down = __shfl_down_sync(0xffffffffu, value, 5);
  mine.exclusive_or = __shfl_xor_sync(0xffffffffu, value, 9);
  mine.up_in_eight = __shfl_up_sync(0xffffffffu, value, 3, 8);
  mine.down_in_eight = __shfl_down_sync(0xffffffffu, value, 3, 8);
  mine.broadcast_in_eight = __shfl_sync(0xffffffffu, value, 1, 8);
  out[threadIdx.x] = mine;
}

// The odd lanes and the even lanes, each among themselves, and at their own pace.
__global__ void halves_kernel(float* out) {
  const bool odd = threadIdx.x % 2 == 1;
  const uint32_t mask = odd ? 0xaaaaaaaau : 0x55555555u;
  float value = static_cast<float>(threadIdx.x);
  for (int offset = 16; offset >= 2; offset /= 2) {
    value += __shfl_xor_sync(mask, value, offset);
    if (odd) __syncwarp(mask);
  }
  out[threadIdx.x] = value;
}

struct Voted {
  uint32_t ballot, match;
  int any, all;
  unsigned sum, smallest, bits;
  int signed_largest;
};
__global__ void vote_kernel(Voted* out) {
  const int i = static_cast<int>(threadIdx.x);
  Voted mine;
  mine.ballot = __ballot_sync(0xffffffffu, i % 3 == 0);
  mine.any = __any_sync(0xffffffffu, i == 31);
  mine.all = __all_sync(0xffffffffu, i < 31);
  mine.match = __match_any_sync(0xffffffffu, i / 5);
  mine.sum = __reduce_add_sync(0xffffffffu, threadIdx.x);
  mine.smallest = __reduce_min_sync(0xffffffffu, threadIdx.x + 7);
  mine.signed_largest = __reduce_max_sync(0xffffffffu, i - 100);
  mine.bits = __reduce_xor_sync(0xffffffffu, 1u << (i / 2));
  out[i] = mine;
}

// A block whose second warp has 8 lanes.
__global__ void ragged_kernel(int* out) {
  const int value = __shfl_xor_sync(0xffffffffu, static_cast<int>(threadIdx.x), 1);
  out[threadIdx.x] = value;
}

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
