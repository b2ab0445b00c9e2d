#include "comm/host_sum.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "base/error.h"

namespace polar {
namespace {

constexpr int64_t kBlock = 2048;  // elements whose sums stay in the first cache while the parts come by

// bf16 is the upper half of a float.
struct Bf16 {
  uint16_t bits;
};

float load(Bf16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}
float load(float x) {
  return x;
}
double load(double x) {
  return x;
}
void store(float value, Bf16& to) {
  const auto bits = std::bit_cast<uint32_t>(value);
  // To nearest, ties to even; a NaN stays one (a carry could make it an infinity).
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to.bits = static_cast<uint16_t>(std::isnan(value) ? (bits >> 16) | 0x40u : rounded);
}
void store(float value, float& to) {
  to = value;
}
void store(double value, double& to) {
  to = value;
}

template <class T>
void sum(std::span<const void* const> parts, T* to, int64_t count) {
  using Sum = decltype(load(T{}));
  std::array<Sum, kBlock> block;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t size = std::min(kBlock, count - begin);
    const T* first = static_cast<const T*>(parts[0]) + begin;
    for (int64_t i = 0; i < size; ++i) block[static_cast<size_t>(i)] = load(first[i]);
    for (size_t part = 1; part < parts.size(); ++part) {
      const T* next = static_cast<const T*>(parts[part]) + begin;
      for (int64_t i = 0; i < size; ++i) block[static_cast<size_t>(i)] += load(next[i]);
    }
    for (int64_t i = 0; i < size; ++i) store(block[static_cast<size_t>(i)], to[begin + i]);
  }
}

}  // namespace

void sum_in_order(std::span<const void* const> parts, void* to, int64_t count, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return sum(parts, static_cast<float*>(to), count);
    case DType::f64:
      return sum(parts, static_cast<double*>(to), count);
    case DType::bf16:
      return sum(parts, static_cast<Bf16*>(to), count);
    default:
      fail("a sum over the ranks of {}; expected F32, F64 or BF16", name_of(dtype));
  }
}

}  // namespace polar
