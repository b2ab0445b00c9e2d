// mma.sync and ldmatrix against written-down maps of who holds what (PTX ISA, "Matrix fragments for
// mma.m16n8k16"), and cp.async.
#include <cmath>

#include "device_array.h"
#include "matrix_kernels.cuh"

namespace polar::kernels {
namespace {

using emulator::test::DeviceArray;
using emulator::test::in_every_order;

struct Place {
  int row, col;
};
// Lane 0 to 31, value 0 to 7 of A (two a register): the table of the PTX ISA, worked out for two lanes as a
// check of the formula, which is then used for all.
Place place_in_a(int lane, int value) {
  return {lane / 4 + (value / 2 % 2) * 8, lane % 4 * 2 + value % 2 + (value / 4) * 8};
}
Place place_in_b(int lane, int value) {
  return {lane % 4 * 2 + value % 2 + (value / 2) * 8, lane / 4};
}
Place place_in_c(int lane, int value) {
  return {lane / 4 + (value / 2) * 8, lane % 4 * 2 + value % 2};
}

TEST(Matrix, MapsAreThoseOfTheManual) {
  const auto same = [](Place p, int row, int col) { return p.row == row && p.col == col; };
  constexpr int kA13[8][2] = {{3, 2}, {3, 3}, {11, 2}, {11, 3}, {3, 10}, {3, 11}, {11, 10}, {11, 11}};
  constexpr int kB13[4][2] = {{2, 3}, {3, 3}, {10, 3}, {11, 3}};
  constexpr int kC30[4][2] = {{7, 4}, {7, 5}, {15, 4}, {15, 5}};
  for (int i = 0; i < 8; ++i) EXPECT_TRUE(same(place_in_a(13, i), kA13[i][0], kA13[i][1]));
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(same(place_in_b(13, i), kB13[i][0], kB13[i][1]));
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(same(place_in_c(30, i), kC30[i][0], kC30[i][1]));
}

uint32_t bits_of(float value) {
  return std::bit_cast<uint32_t>(value) >> 16;
}  // of a small integer: exact

TEST(Matrix, MultiplyAdds) {
  in_every_order([] {
    const auto a_at = [](int row, int k) { return static_cast<float>((row * 5 + k * 3) % 11 - 5); };
    const auto b_at = [](int k, int col) { return static_cast<float>((k * 7 + col * 2) % 9 - 4); };
    const auto c_at = [](int row, int col) { return static_cast<float>(row * 8 + col); };
    std::vector<uint32_t> a(32 * 4), b(32 * 2);
    std::vector<float> c(32 * 4);
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 8; ++i) {
        const auto word = [&](int values, int index) {
          return static_cast<size_t>(lane * values / 2 + index / 2);
        };
        const Place in_a = place_in_a(lane, i);
        a[word(8, i)] |= bits_of(a_at(in_a.row, in_a.col)) << (i % 2 * 16);
        if (i >= 4) continue;
        const Place in_b = place_in_b(lane, i), in_c = place_in_c(lane, i);
        b[word(4, i)] |= bits_of(b_at(in_b.row, in_b.col)) << (i % 2 * 16);
        c[static_cast<size_t>(lane * 4 + i)] = c_at(in_c.row, in_c.col);
      }
    const DeviceArray<uint32_t> a_device(a), b_device(b);
    const DeviceArray<float> c_device(c), d_device(32 * 4);
    ASSERT_EQ(device_launch(LaunchConfig(1, 32), &mma_kernel, a_device.get(), b_device.get(), c_device.get(),
                            d_device.get()),
              cudaSuccess);
    const std::vector<float> d = d_device.read();
    for (int lane = 0; lane < 32; ++lane)
      for (int i = 0; i < 4; ++i) {
        const Place place = place_in_c(lane, i);
        float want = c_at(place.row, place.col);
        for (int k = 0; k < 16; ++k) want += a_at(place.row, k) * b_at(k, place.col);
        EXPECT_EQ(d[static_cast<size_t>(lane * 4 + i)], want) << "lane " << lane << " value " << i;
      }
  });
}

template <bool transposed, int matrices>
void check_ldmatrix() {
  const DeviceArray<uint32_t> out(32 * matrices);
  ASSERT_EQ(device_launch(LaunchConfig(1, 32), &ldmatrix_kernel<transposed, matrices>, out.get()),
            cudaSuccess);
  const std::vector<uint32_t> got = out.read();
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (uint32_t m = 0; m < matrices; ++m) {
      const uint32_t across = lane / 4, along = lane % 4 * 2;
      const uint32_t first = transposed ? 16 * along + across : 16 * across + along;
      const uint32_t second = transposed ? first + 16 : first + 1;
      EXPECT_EQ(got[lane * matrices + m], (256 * m + first) | (256 * m + second) << 16);
    }
}

TEST(Matrix, LoadsFromSharedMemory) {
  in_every_order([] {
    check_ldmatrix<false, 4>();
    check_ldmatrix<true, 4>();
    check_ldmatrix<false, 2>();
    check_ldmatrix<true, 2>();
  });
}

TEST(AsyncCopy, LandsAtTheWaitThatCoversIt) {
  const emulator::test::WithOptions defaults;
  std::vector<float> from(256);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<float>(i);
  const DeviceArray<float> source(from), out(128);
  ASSERT_EQ(device_launch(LaunchConfig(1, 32), &async_copy_kernel, source.get(), out.get()), cudaSuccess);
  const std::vector<float> got = out.read();
  for (size_t i = 0; i < 32; ++i) {
    EXPECT_EQ(got[i], from[4 * i + 3]);
    EXPECT_TRUE(std::isnan(got[32 + i])) << "the second group has not been waited for";
    EXPECT_EQ(got[64 + i], from[128 + 4 * i + 3]);
    EXPECT_EQ(got[96 + i], i % 2 == 0 ? from[i] : 0.0f);
  }
}

TEST(Ptx, Exponentials) {
  std::vector<float> x(32);
  for (size_t i = 0; i < x.size(); ++i) x[i] = 0.25f * static_cast<float>(i + 1);
  const DeviceArray<float> from(x), out(64);
  ASSERT_EQ(device_launch(LaunchConfig(1, 32), &exponentials_kernel, from.get(), out.get()), cudaSuccess);
  const std::vector<float> got = out.read();
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_NEAR(got[2 * i], std::exp2(x[i]), 1e-6f * std::exp2(x[i]));
    EXPECT_NEAR(got[2 * i + 1], std::log2(x[i]), 1e-6f);
  }
}

}  // namespace
}  // namespace polar::kernels
