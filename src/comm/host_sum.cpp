#include "comm/host_sum.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "tensor/bf16.h"

namespace polar {
namespace {

constexpr int64_t kBlock = 2048;  // elements whose sums stay in the first cache while the parts come by

struct Bf16 {
  uint16_t bits;
};

float load(Bf16 x) {
  return bf16_to_float(x.bits);
}
float load(float x) {
  return x;
}
double load(double x) {
  return x;
}
void store(float value, Bf16& to) {
  to.bits = float_to_bf16(value);
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
