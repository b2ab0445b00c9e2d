// What C++ that was translated from PTX is written with. Registers hold bits: unsigned integers, float,
// double.
#pragma once

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <limits>

#include "kernels/emulator/device_emulation.h"
#include "kernels/emulator/ptx_emulation.h"
#include "kernels/emulator/ptx_sm90_emulation.h"
#include "kernels/emulator/report.h"
#include "kernels/emulator/translation.h"

namespace polar::emulator::ptx {

using std::max;
using std::min;

// Makes a kernel's translation known.
struct Registered {
  Registered(const char* name, TranslatedFunction run, int maximum_threads, int capability,
             std::vector<size_t> parameter_bytes) {
    register_translation({name, run, maximum_threads, capability, std::move(parameter_bytes)});
  }
};

[[noreturn]] inline void not_translated(const char* instruction) {
  fail("the PTX instruction {} has no translation", instruction);
}
inline std::source_location here(std::source_location where = std::source_location::current()) {
  return where;
}

// --- bits ---
inline float as_float(uint32_t bits) {
  return std::bit_cast<float>(bits);
}
inline double as_double(uint64_t bits) {
  return std::bit_cast<double>(bits);
}
inline uint32_t bits_of(float x) {
  return std::bit_cast<uint32_t>(x);
}
inline uint64_t bits_of(double x) {
  return std::bit_cast<uint64_t>(x);
}
inline uint64_t address(const volatile void* pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}
inline const void* pointer(uint64_t address) {
  return reinterpret_cast<const void*>(address);
}

template <class T>
T shift_left(T x, uint32_t count) {
  return count >= sizeof(T) * 8 ? T{0} : static_cast<T>(x << count);
}
template <class T>
T shift_right(T x, uint32_t count) {
  if (count >= sizeof(T) * 8) return static_cast<T>(x < T{0} ? -1 : 0);
  return static_cast<T>(x >> count);
}
template <class T>
T insert_bits(T from, T into, uint32_t position, uint32_t length) {
  constexpr uint32_t kBits = sizeof(T) * 8;
  position &= 255;
  length &= 255;
  if (position >= kBits || length == 0) return into;
  const T mask =
      shift_left(length >= kBits ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << length) - 1), position);
  return static_cast<T>((into & ~mask) | (shift_left(from, position) & mask));
}
// The field, extended by its sign for a signed type.
template <class T>
T extract_bits(T x, uint32_t position, uint32_t length) {
  constexpr uint32_t kBits = sizeof(T) * 8;
  using Unsigned = std::make_unsigned_t<T>;
  position &= 255;
  length &= 255;
  if (length == 0) return 0;
  const uint32_t top = std::min(position + length - 1, kBits - 1);
  const bool negative = std::is_signed_v<T> && (static_cast<Unsigned>(x) >> top & 1) != 0;
  Unsigned out = shift_right(static_cast<Unsigned>(x), position);
  if (length < kBits) {
    const Unsigned mask = static_cast<Unsigned>((Unsigned{1} << length) - 1);
    out &= mask;
    const uint32_t there = top - std::min(position, top) + 1;
    if (negative)
      out |= static_cast<Unsigned>(~shift_right(static_cast<Unsigned>(~Unsigned{0}), kBits - there));
  }
  return static_cast<T>(out);
}
template <class T>
T reverse_bits(T x) {
  T out = 0;
  for (size_t i = 0; i < sizeof(T) * 8; ++i) out = static_cast<T>(out << 1 | (x >> i & 1));
  return out;
}
// Of a negative number, the highest bit that is 0. All ones if there is none.
template <class T>
uint32_t highest_bit(T x) {
  auto bits = static_cast<std::make_unsigned_t<T>>(x);
  if (x < T{0}) bits = static_cast<std::make_unsigned_t<T>>(~bits);
  return bits == 0 ? ~0u : static_cast<uint32_t>(std::bit_width(bits)) - 1;
}
template <uint32_t bits>
uint32_t shift_amount(uint32_t highest) {
  return highest == ~0u ? highest : bits - 1 - highest;
}
// Bit by bit, what the table says for the three bits.
inline uint32_t combine_bits(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t out = 0;
  for (uint32_t i = 0; i < 8; ++i)
    if ((table >> i & 1) != 0) out |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
  return out;
}
// Bit 3 of a selector copies the byte's sign instead of the byte.
inline uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t out = 0;
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t choice = selector >> (4 * i) & 15,
                   byte = static_cast<uint32_t>(bytes >> (choice & 7) * 8) & 255;
    out |= (choice & 8 ? (byte & 128 ? 255u : 0u) : byte) << (8 * i);
  }
  return out;
}

// --- arithmetic ---
inline int32_t high_product(int32_t a, int32_t b) {
  return static_cast<int32_t>(int64_t{a} * b >> 32);
}
inline uint32_t high_product(uint32_t a, uint32_t b) {
  return static_cast<uint32_t>(uint64_t{a} * b >> 32);
}
inline uint64_t high_product(uint64_t a, uint64_t b) {
  return __umul64hi(a, b);
}
inline int64_t high_product(int64_t a, int64_t b) {
  __extension__ using Wide = __int128;
  return static_cast<int64_t>(static_cast<Wide>(a) * b >> 64);
}
template <class T>
T reciprocal(T x) {
  return T{1} / x;
}
template <class T>
T reciprocal_root(T x) {
  return T{1} / std::sqrt(x);
}
inline float saturated(float x) {
  return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f;
}
inline double saturated(double x) {
  return x > 0.0 ? (x < 1.0 ? x : 1.0) : 0.0;
}
// a b + c rounded towards minus or plus infinity.
inline float fused_down(float a, float b, float c) {
  const double exact = static_cast<double>(a) * b + c;
  const auto near = static_cast<float>(exact);
  return near > exact ? std::nextafter(near, -std::numeric_limits<float>::infinity()) : near;
}
inline float fused_up(float a, float b, float c) {
  return -fused_down(-a, b, -c);
}
template <class T>
bool is_unordered(T a, T b) {
  return std::isnan(a) || std::isnan(b);
}
// Values out of range become the nearest, NaN 0.
template <class Integer, class Float>
Integer to_integer(Float x) {
  using Limits = std::numeric_limits<Integer>;
  if (std::isnan(x)) return 0;
  if (x <= static_cast<Float>(Limits::min())) return Limits::min();
  if (x >= static_cast<Float>(Limits::max())) return Limits::max();
  return static_cast<Integer>(x);
}
template <class Integer, class From>
Integer clamped(From x) {
  using Limits = std::numeric_limits<Integer>;
  return std::cmp_less(x, Limits::min())      ? Limits::min()
         : std::cmp_greater(x, Limits::max()) ? Limits::max()
                                              : static_cast<Integer>(x);
}
inline uint16_t to_bf16(float x) {
  const __nv_bfloat16_raw raw = __float2bfloat16(x);
  return raw.x;
}
inline uint16_t to_bf16(double x) {
  const __nv_bfloat16_raw raw = __double2bfloat16(x);
  return raw.x;
}
inline uint32_t pack_bf16(float high, float low) {
  return uint32_t{to_bf16(high)} << 16 | to_bf16(low);
}

// --- memory: every access is checked for its alignment ---
template <class T, int count>
T* memory_at(uint64_t where) {
  if (where % (sizeof(T) * count) != 0)
    fail("a misaligned access of {} bytes at {:#x}", sizeof(T) * count, where);
  return reinterpret_cast<T*>(where);
}
inline uint32_t dynamic_shared_bytes() {
  return static_cast<uint32_t>(current_thread->block->grid->shared_bytes);
}
inline uint64_t dynamic_shared_address() {
  return kDynamicWindow;
}
inline uint64_t static_shared_address(const void* key, size_t bytes, size_t alignment) {
  return shared_address(static_shared(key, bytes, std::max<size_t>(alignment, 16)));
}
inline uint64_t shared_address_of(uint64_t generic) {
  return shared_address(pointer(generic));
}
template <class T, int count>
T* shared_at(uint32_t where) {
  const uint32_t offset = where - kDynamicWindow;
  unsigned char* memory = offset < dynamic_shared_bytes() ? current_thread->block->dynamic_shared + offset
                                                          : shared_pointer(where);
  return memory_at<T, count>(address(memory));
}
inline uint64_t* barrier_at(uint32_t where) {
  return shared_at<uint64_t, 1>(where);
}

// --- threads ---
inline uint32_t lane_id() {
  return current_thread->lane;
}
inline uint32_t warp_id() {
  return current_thread->warp;
}
inline uint64_t clock_ticks() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

enum class Shuffle : uint8_t { index, up, down, butterfly };
// shfl.sync: `bounds` holds the last lane and, from bit 8 on, which bits of the lane name its segment.
inline uint32_t shuffle_words(Shuffle how, uint32_t value, uint32_t by, uint32_t bounds, uint32_t mask,
                              bool& inside, std::source_location where = std::source_location::current()) {
  const uint32_t lane = lane_id(), segment = bounds >> 8 & 31, distance = by & 31;
  const auto last = static_cast<int>((lane & segment) | (bounds & 31 & ~segment));
  int source = 0;
  switch (how) {
    case Shuffle::up:
      source = static_cast<int>(lane) - static_cast<int>(distance);
      break;
    case Shuffle::down:
      source = static_cast<int>(lane + distance);
      break;
    case Shuffle::butterfly:
      source = static_cast<int>(lane ^ distance);
      break;
    case Shuffle::index:
      source = static_cast<int>((lane & segment) | (distance & ~segment));
      break;
  }
  inside = how == Shuffle::up ? source >= last : source <= last;
  if (!inside) source = static_cast<int>(lane);
  return shuffle(mask, value, source, "shfl.sync", where);
}

}  // namespace polar::emulator::ptx
