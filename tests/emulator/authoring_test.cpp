// The helpers that every kernel is written with, on the emulator: block reductions and 16-byte vectors.
#include "authoring_kernels.cuh"
#include "device_array.h"

namespace polar::kernels {
namespace {

using emulator::test::DeviceArray;

template <int threads, class T>
void check_rows(int rows, int cols) {
  std::vector<T> values;
  for (int i = 0; i < rows * cols; ++i)
    values.push_back(from_float<T>(static_cast<float>((i * 7) % 33 - 16)));
  const DeviceArray<T> x(values);
  const DeviceArray<float> out(static_cast<size_t>(2 * rows));
  ASSERT_EQ(device_launch(LaunchConfig(static_cast<unsigned>(rows), threads), &sum_and_maximum<threads, T>,
                          x.get(), out.get(), cols),
            cudaSuccess);
  const std::vector<float> results = out.read();
  for (int row = 0; row < rows; ++row) {
    float sum = 0.0f, largest = -1e30f;
    for (int i = 0; i < cols; ++i) {
      const float value = to_float(values[static_cast<size_t>(row * cols + i)]);
      sum += value;  // small integers: exact in any order
      largest = std::max(largest, value);
    }
    EXPECT_EQ(results[static_cast<size_t>(2 * row)], sum);
    EXPECT_EQ(results[static_cast<size_t>(2 * row + 1)], largest);
  }
}

TEST(Authoring, BlockReductions) {
  check_rows<32, float>(3, 100);
  check_rows<128, float>(3, 1000);
  check_rows<256, bf16>(3, 800);
  check_rows<1024, bf16>(2, 16);
}

template <class T>
void check_vectors() {
  std::vector<T> values;
  for (int i = 0; i < 80; ++i) values.push_back(from_float<T>(static_cast<float>(i) / 8.0f));
  const DeviceArray<T> x(values), y(values);
  ASSERT_EQ(device_launch(LaunchConfig(2, 32), &negate<T>, x.get(), y.get(), 80 / Vector<T>::kCount),
            cudaSuccess);
  const std::vector<T> negated = y.read();
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(to_float(negated[i]), -to_float(values[i]));
}

TEST(Authoring, Vectors) {
  check_vectors<float>();
  check_vectors<bf16>();
  EXPECT_EQ(pack_bf16(1.0f, -2.0f), 0xc0003f80u);
  const std::vector<float> memory(16);
  EXPECT_EQ(aligned_for_vectors(memory.data(), 6), false);
}

}  // namespace
}  // namespace polar::kernels
