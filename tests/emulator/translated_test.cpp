// What only the code that nvcc generates can show. Without translations (source mode) the same kernels run as
// the host compiler has compiled them, and the faults cannot be seen.
#include <cmath>

#include "device_array.h"
#include "kernels/emulator/translation.h"
#include "translated_kernels.cuh"

namespace polar::kernels {
namespace {

using emulator::runs_translations;
using emulator::test::DeviceArray;

TEST(Translated, AssemblyIsExecuted) {
  // a (16, 16) is 1 in the columns 0 to 7, else 0; b (16, 8) is 1 in the rows 0 and 1, 3 in the rows 8 to 15.
  std::vector<uint32_t> a(128), b(64);
  for (size_t i = 0; i < a.size(); ++i) a[i] = i % 4 < 2 ? 0x3f803f80u : 0u;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    b[2 * lane] = lane % 4 == 0 ? 0x3f803f80u : 0u;
    b[2 * lane + 1] = 0x40404040u;
  }
  const DeviceArray<uint32_t> a_device(a), b_device(b);
  const DeviceArray<float> d(128);
  ASSERT_EQ(device_launch(LaunchConfig(1, 32), &exchanged_registers_kernel, a_device.get(), b_device.get(),
                          d.get()),
            cudaSuccess);
  const float right = 2.0f, with_rows_exchanged = 24.0f;
  for (const float value : d.read()) ASSERT_EQ(value, runs_translations() ? with_rows_exchanged : right);
}

TEST(Translated, MisalignedAccessesAreReported) {
  if (!runs_translations()) GTEST_SKIP() << "the address sanitizer's business";
  const DeviceArray<float> from(256), out(32);
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &read_four_kernel, from.get(), out.get(), 1),
               "a misaligned access of 16 bytes");
}

TEST(Translated, LaunchBoundsHold) {
  const DeviceArray<float> out(128);
  EXPECT_EQ(device_launch(LaunchConfig(1, 64), &bounded_kernel, out.get()), cudaSuccess);
  if (!runs_translations()) GTEST_SKIP() << "the host compiler does not know them";
  EXPECT_DEATH(device_launch(LaunchConfig(1, 96), &bounded_kernel, out.get()),
               "96 threads in a block, but __launch_bounds__ of 64");
}

TEST(Translated, UnknownInstructionsAreReportedWhenTheyAreExecuted) {
  const DeviceArray<unsigned> out(32);
  if (!runs_translations()) GTEST_SKIP() << "nothing is translated";
  EXPECT_DEATH(device_launch(LaunchConfig(1, 32), &unknown_instruction_kernel, out.get()),
               "the PTX instruction mov.u32 has no translation(.|\n)*launched at translated_test.cpp");
}

TEST(Translated, Arithmetic) {
  const DeviceArray<float> x(std::vector<float>{1.25f, 7.5f, NAN});
  const DeviceArray<int> n(std::vector<int>{123456, 7});
  const DeviceArray<Arithmetic> out(1);
  ASSERT_EQ(device_launch(LaunchConfig(1, 1), &arithmetic_kernel, x.get(), n.get(), out.get()), cudaSuccess);
  const Arithmetic got = out.read()[0];
  constexpr float kTolerance = 1e-6f;
  EXPECT_NEAR(got.exponential, std::exp(1.25f), kTolerance * std::exp(1.25f));
  EXPECT_NEAR(got.logarithm, std::log(7.5f), kTolerance * std::log(7.5f));
  EXPECT_NEAR(got.root, 1.0f / std::sqrt(7.5f), kTolerance);
  EXPECT_NEAR(got.quotient, 1.25f / 7.5f, kTolerance);
  EXPECT_NEAR(got.power, std::pow(7.5f, 1.25f), kTolerance * std::pow(7.5f, 1.25f));
  EXPECT_NEAR(got.sine, std::sin(1.25f), kTolerance);
  EXPECT_EQ(got.rounded_down, 1.0f);
  EXPECT_EQ(got.absolute, 7.5f);
  EXPECT_EQ(got.smaller, 1.25f);
  EXPECT_NEAR(got.double_power, std::pow(7.5, 3.5), 1e-12 * std::pow(7.5, 3.5));
  EXPECT_DOUBLE_EQ(got.double_quotient, 1.25 / 7.5);
  EXPECT_DOUBLE_EQ(got.double_root, std::sqrt(7.5));
  EXPECT_EQ(got.to_integer, 8);
  EXPECT_EQ(got.saturated, 100);
  EXPECT_EQ(got.remainder, 123456 % 7);
  EXPECT_EQ(got.ones, 6);
  EXPECT_EQ(got.leading_zeros, 15);
  EXPECT_EQ(got.first_one, 7);
  EXPECT_EQ(got.high, static_cast<int>(int64_t{123456} * 7000021 >> 32));
  EXPECT_EQ(got.permuted, 0x77338844u);
  EXPECT_EQ(got.funnel, 123456u << 9 | 0x80000001u >> 23);
  EXPECT_EQ(got.reversed, 123456u >> 7);
  EXPECT_EQ(got.product, 864192);
  EXPECT_TRUE(got.is_nan);
  EXPECT_TRUE(got.is_less);
}

}  // namespace
}  // namespace polar::kernels
