// Counter-based random numbers: every value is a pure function of (seed, stream, index). No state, so nothing
// to save, and the same bits whatever the order or the number of threads in which the values are asked for.
#pragma once

#include <cmath>
#include <cstdint>

namespace polar {

// SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection of 64 bits with full avalanche.
constexpr uint64_t mix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// 64 random bits for (seed, stream, index).
constexpr uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t index) {
  return mix64(mix64(mix64(seed) ^ stream) ^ index);
}

// Uniform in [0, 1), 53 bits.
constexpr double random_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
  return static_cast<double>(random_bits(seed, stream, index) >> 11) * 0x1.0p-53;
}

// Standard normal by Box-Muller; (0, 1] for the logarithm.
inline double random_normal(uint64_t seed, uint64_t stream, uint64_t index) {
  const double u = 1.0 - random_uniform(seed, stream, 2 * index);
  const double v = random_uniform(seed, stream, 2 * index + 1);
  return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586476925 * v);
}

// FNV-1a over a name: a stable stream number for a parameter, a data set, a purpose.
constexpr uint64_t stream_of(const char* text, uint64_t length) {
  uint64_t hash = 0xCBF29CE484222325ull;
  for (uint64_t i = 0; i < length; ++i)
    hash = (hash ^ static_cast<unsigned char>(text[i])) * 0x100000001B3ull;
  return hash;
}

// A keyed permutation of [0, size): a four-round Feistel network on the next even number of bits, walked
// along its cycle until the value falls inside. Deterministic, O(1) memory; expected walk below four rounds.
class Permutation {
 public:
  Permutation(uint64_t size, uint64_t key) : size_(size), key_(key) {
    while ((uint64_t{1} << (2 * half_bits_)) < size_) ++half_bits_;
  }
  uint64_t operator()(uint64_t index) const {
    do index = encrypt(index);
    while (index >= size_);
    return index;
  }

 private:
  uint64_t encrypt(uint64_t x) const {
    const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
    uint64_t left = x >> half_bits_, right = x & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint64_t next = left ^ (random_bits(key_, round, right) & mask);
      left = right;
      right = next;
    }
    return (left << half_bits_) | right;
  }
  uint64_t size_, key_;
  unsigned half_bits_ = 1;
};

}  // namespace polar
