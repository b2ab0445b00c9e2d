// Hopper's instructions: barriers in shared memory, TMA tiles, warpgroup products, and a product of matrices
// that uses them all as a kernel would.
#include <cmath>

#include "device_array.h"
#include "hopper_kernels.cuh"

namespace polar::kernels {
namespace {

using emulator::test::DeviceArray;
using emulator::test::in_every_order;
using emulator::test::WithOptions;

uint16_t bits_of(float value) {
  return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
}  // exact ones

// Small integers: products and their sums are exact.
std::vector<uint16_t> integers(int rows, int cols, int seed) {
  std::vector<uint16_t> bits;
  for (int i = 0; i < rows * cols; ++i)
    bits.push_back(bits_of(static_cast<float>((i * seed + i / 7) % 9 - 4)));
  return bits;
}
float value_of(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

CUtensorMap map_of(const DeviceArray<uint16_t>& data, int rows, int cols, int tile_rows) {
  CUtensorMap map;
  EXPECT_EQ(make_tensor_map(&map, reinterpret_cast<const bf16*>(data.get()), rows, cols, cols, tile_rows),
            cudaSuccess);
  return map;
}

// Only where the device is one.
class Hopper : public testing::Test {
 protected:
  void SetUp() override {
    if (emulator::options().capability < 90) GTEST_SKIP() << "the device is older than Hopper";
  }
};

TEST_F(Hopper, BarriersInSharedMemory) {
  in_every_order([] {
    const DeviceArray<int> out(7 * 32);
    ASSERT_EQ(device_launch(LaunchConfig(1, 64, 256), &hand_over_kernel, out.get(), 7), cudaSuccess);
    const std::vector<int> got = out.read();
    for (int i = 0; i < 7 * 32; ++i) EXPECT_EQ(got[static_cast<size_t>(i)], i / 32 * 100 + 31 - i % 32);
  });
}

// Row r of a tile stands at 128 r, its 16-byte pieces in places exchanged by r % 8: piece p at p ^ (r % 8).
// The element of the test matrix at (row, col) is 256 row + col, as bits.
TEST_F(Hopper, TilesAreSwizzledAndFilledUp) {
  constexpr int kRows = 100, kCols = 72;
  std::vector<uint16_t> matrix;
  for (int i = 0; i < kRows * kCols; ++i)
    matrix.push_back(static_cast<uint16_t>(i / kCols * 256 + i % kCols));
  const DeviceArray<uint16_t> data(matrix), out(kTileBytes / 2);
  const CUtensorMap map = map_of(data, kRows, kCols, 64);
  for (const auto& [column, row] : {std::pair{0, 0}, {8, 30}, {64, 64}, {-8, -3}}) {
    ASSERT_EQ(device_launch(LaunchConfig(1, 32, kTileBytes + 64), &tile_kernel, map, out.get(), column, row),
              cudaSuccess);
    const std::vector<uint16_t> tile = out.read();
    for (int r = 0; r < 64; ++r)
      for (int col = 0; col < 64; ++col) {
        const int from_row = row + r, from_col = column + col;
        const bool inside = from_row >= 0 && from_row < kRows && from_col >= 0 && from_col < kCols;
        const int at = r * 64 + ((col / 8) ^ (r % 8)) * 8 + col % 8;
        ASSERT_EQ(tile[static_cast<size_t>(at)], inside ? (from_row * 256 + from_col) & 0xffff : 0)
            << r << ", " << col;
      }
  }
}

TEST_F(Hopper, PlainBytes) {
  std::vector<unsigned char> bytes;
  for (int i = 0; i < 784; ++i) bytes.push_back(static_cast<unsigned char>(i * 7 + i / 256));
  const DeviceArray<unsigned char> data(bytes), out(bytes.size());
  const auto copy = [&](int offset, int count) {
    return device_launch(LaunchConfig(1, 32, kTileBytes + 64), &bytes_kernel, data.get() + offset, out.get(),
                         count);
  };
  for (const int offset : {0, 16}) {
    ASSERT_EQ(copy(offset, 768), cudaSuccess);
    const std::vector<unsigned char> got = out.read();
    for (size_t i = 0; i < 768; ++i) ASSERT_EQ(got[i], bytes[i + static_cast<size_t>(offset)]) << i;
  }
  EXPECT_DEATH(copy(8, 64), "TMA copy at .*: the addresses are not 16-byte aligned");
  EXPECT_DEATH(copy(0, 40), "TMA copy at .*: 40 bytes, expected a multiple of 16");
  EXPECT_DEATH(copy(16, 784), "784 bytes at offset 16 of a source of 784 bytes");
}

template <int columns, Major major_b, bool a_in_registers, Major major_a = Major::k>
void check_product() {
  SCOPED_TRACE(testing::Message() << columns << " columns");
  constexpr bool transposed = major_b == Major::mn;
  const std::vector<uint16_t> a = integers(64, 64, 5), b = integers(64, columns, 11);
  const DeviceArray<uint16_t> a_device(a), b_device(b);
  const DeviceArray<float> c_device(64 * columns);
  const CUtensorMap a_map = map_of(a_device, 64, 64, 64);
  const CUtensorMap b_map =
      transposed ? map_of(b_device, 64, columns, 64) : map_of(b_device, columns, 64, columns);
  const auto kernel = &product_kernel<columns, major_b, a_in_registers, major_a>;
  ASSERT_EQ(device_launch(LaunchConfig(1, 128, 3 * kTileBytes + 64), kernel, a_map, b_map,
                          reinterpret_cast<const bf16*>(a_device.get()), c_device.get()),
            cudaSuccess);
  const std::vector<float> c = c_device.read();
  for (int row = 0; row < 64; ++row)
    for (int col = 0; col < columns; ++col) {
      float want = 0.0f;
      for (int k = 0; k < 64; ++k)
        want += value_of(a[static_cast<size_t>(major_a == Major::mn ? k * 64 + row : row * 64 + k)]) *
                value_of(b[static_cast<size_t>(transposed ? k * columns + col : col * 64 + k)]);
      ASSERT_EQ(c[static_cast<size_t>(row * columns + col)], want) << row << ", " << col;
    }
}

TEST_F(Hopper, WarpgroupProducts) {
  in_every_order([] {
    check_product<64, Major::k, false>();
    check_product<64, Major::mn, false>();
    check_product<128, Major::k, false>();
    check_product<128, Major::mn, false>();
    check_product<64, Major::k, true>();
    check_product<64, Major::mn, true>();
    check_product<128, Major::k, true>();
    check_product<128, Major::mn, true>();
    check_product<64, Major::k, false, Major::mn>();
    check_product<64, Major::mn, false, Major::mn>();
    check_product<128, Major::k, false, Major::mn>();
    check_product<128, Major::mn, false, Major::mn>();
  });
}

TEST_F(Hopper, TensorMapsThatCannotBe) {
  const DeviceArray<uint16_t> data(64 * 64);
  const auto* memory = reinterpret_cast<const bf16*>(data.get());
  CUtensorMap map;
  EXPECT_EQ(make_tensor_map(&map, memory, 64, 64, 60, 64), cudaErrorInvalidValue);      // stride
  EXPECT_EQ(make_tensor_map(&map, memory + 1, 63, 64, 64, 64), cudaErrorInvalidValue);  // alignment
  EXPECT_EQ(make_tensor_map(&map, memory, 64, 64, 64, 300), cudaErrorInvalidValue);     // box
  EXPECT_DEATH(make_tensor_map(&map, memory, 65, 64, 64, 64),
               "8320 bytes at offset 0 of a tensor of 8192 bytes");
}

class HopperFaults : public Hopper {
 protected:
  template <Fault fault>
  cudaError_t launch() {
    return device_launch(LaunchConfig(1, 128, kTileBytes + 64), &faulty_kernel<fault>,
                         map_of(data_, 64, 64, 64), out_.get());
  }
  const WithOptions defaults_;
  const DeviceArray<uint16_t> data_{integers(64, 64, 5)};
  const DeviceArray<float> out_{128};
};

TEST_F(HopperFaults, MissingWaitForATile) {
  ASSERT_EQ(launch<Fault::none>(), cudaSuccess);
  EXPECT_FALSE(std::isnan(out_.read()[0]));
  ASSERT_EQ(launch<Fault::wait_for_tile>(), cudaSuccess);
  EXPECT_TRUE(std::isnan(out_.read()[0]));
}
TEST_F(HopperFaults, MissingWaitForAProduct) {
  ASSERT_EQ(launch<Fault::wait_for_product>(), cudaSuccess);
  EXPECT_EQ(out_.read()[0], 0.0f);  // as it was before the product
  EXPECT_DEATH(launch<Fault::never_waits>(), "1 wgmma at the end of a block that nobody has waited for");
}
TEST_F(HopperFaults, MissingFence) {
  EXPECT_DEATH(launch<Fault::fence>(), "wgmma without wgmma.fence since the last wait");
}
TEST_F(HopperFaults, Barriers) {
  EXPECT_DEATH(
      device_launch(LaunchConfig(1, 32, 64), &overfull_kernel),
      "mbarrier.try_wait at (hopper_kernels|ptx_sm90).cuh:[0-9]+: the barrier has not been initialised");
  EXPECT_DEATH(
      device_launch(LaunchConfig(1, 32, 64), &stuck_kernel),
      "DEAD-LOCK(.|\n)*threads 0-31: wait at mbarrier.try_wait, (hopper_kernels|ptx_sm90).cuh:[0-9]+");
}

}  // namespace
}  // namespace polar::kernels
