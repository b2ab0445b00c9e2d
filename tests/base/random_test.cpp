// Counter-based random numbers: known values of SplitMix64, moments, and the permutation.
#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <vector>

namespace polar::test {
namespace {

// The first outputs of SplitMix64 seeded with 0 (the reference implementation of Vigna's splitmix64.c): its
// state grows by the increment that mix64 adds first.
TEST(Random, MixIsSplitMix64) {
  constexpr uint64_t kIncrement = 0x9E3779B97F4A7C15ull;
  EXPECT_EQ(mix64(0), 0xE220A8397B1DCDAFull);
  EXPECT_EQ(mix64(kIncrement), 0x6E789E6AA1B965F4ull);
  EXPECT_EQ(mix64(2 * kIncrement), 0x06C45D188009454Full);
}

TEST(Random, SeedStreamAndIndexAllMatter) {
  std::set<uint64_t> values;
  for (uint64_t seed = 0; seed < 10; ++seed)
    for (uint64_t stream = 0; stream < 10; ++stream)
      for (uint64_t index = 0; index < 100; ++index) values.insert(random_bits(seed, stream, index));
  EXPECT_EQ(values.size(), 10000u);
  constexpr std::string_view a = "model.norm.weight", b = "model.norm.bias";
  EXPECT_NE(stream_of(a.data(), a.size()), stream_of(b.data(), b.size()));
}

// The bounds are five standard errors of each moment.
TEST(Random, UniformMoments) {
  constexpr int kCount = 1000000;
  double mean = 0.0, square = 0.0, lowest = 1.0, highest = 0.0;
  for (uint64_t i = 0; i < kCount; ++i) {
    const double u = random_uniform(1, 2, i);
    mean += u / kCount;
    square += u * u / kCount;
    lowest = std::min(lowest, u);
    highest = std::max(highest, u);
  }
  EXPECT_NEAR(mean, 0.5, 5 * std::sqrt(1.0 / 12 / kCount));
  EXPECT_NEAR(square, 1.0 / 3, 5 * std::sqrt((1.0 / 5 - 1.0 / 9) / kCount));
  EXPECT_GE(lowest, 0.0);
  EXPECT_LT(highest, 1.0);
}

TEST(Random, NormalMoments) {
  constexpr int kCount = 1000000;
  double moments[5] = {}, neighbours = 0.0, previous = 0.0;
  for (uint64_t i = 0; i < kCount; ++i) {
    const double x = random_normal(3, 4, i);
    for (int k = 1; k <= 4; ++k) moments[k] += std::pow(x, k) / kCount;
    neighbours += x * previous / kCount;
    previous = x;
  }
  const double unit = 5 / std::sqrt(static_cast<double>(kCount));
  EXPECT_NEAR(moments[1], 0.0, unit);
  EXPECT_NEAR(moments[2], 1.0, unit * std::sqrt(2.0));
  EXPECT_NEAR(moments[3], 0.0, unit * std::sqrt(15.0));
  EXPECT_NEAR(moments[4], 3.0, unit * std::sqrt(96.0));
  EXPECT_NEAR(neighbours, 0.0, unit);
}

TEST(Permutation, IsABijectionForEverySize) {
  std::vector<uint64_t> sizes = {4095, 4096, 4097, 65535, 65536, 65537, 100003};
  for (uint64_t size = 1; size <= 300; ++size) sizes.push_back(size);
  for (uint64_t size : sizes)
    for (uint64_t key : {0ull, 1ull, 0xFFFFFFFFFFFFFFFFull}) {
      const Permutation permutation(size, key);
      std::vector<bool> seen(size);
      for (uint64_t i = 0; i < size; ++i) {
        const uint64_t image = permutation(i);
        ASSERT_LT(image, size);
        ASSERT_FALSE(seen[image]) << "size " << size << ", key " << key;
        seen[image] = true;
      }
    }
}

TEST(Permutation, KeysGiveDifferentOrdersThatMix) {
  constexpr uint64_t kSize = 10000;
  const Permutation a(kSize, 1), b(kSize, 2);
  int equal = 0, fixed = 0, rising = 0;
  for (uint64_t i = 0; i < kSize; ++i) {
    equal += a(i) == b(i);
    fixed += a(i) == i;
    rising += i > 0 && a(i) > a(i - 1);
  }
  EXPECT_LT(equal, 10);  // one is expected of two random permutations
  EXPECT_LT(fixed, 10);
  EXPECT_NEAR(rising, kSize / 2, 5 * std::sqrt(kSize / 12.0));
}

TEST(Permutation, HugeSizesStayInside) {
  const uint64_t size = (uint64_t{1} << 40) + 12345;
  const Permutation permutation(size, 7);
  std::set<uint64_t> images;
  for (uint64_t i = 0; i < 1000; ++i) {
    images.insert(permutation(size - 1 - i));
    EXPECT_LT(permutation(i), size);
  }
  EXPECT_EQ(images.size(), 1000u);
}

}  // namespace
}  // namespace polar::test
