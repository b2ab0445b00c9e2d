// Rows and flat arrays in pieces of `width` elements, a thread each: 16-byte accesses where pointers and
// strides allow them (`aligned`, which the launcher finds out), single elements elsewhere and at a row's end.
// Which element is computed by whom is the same either way, so alignment changes no bit of a result.
#pragma once

#include <type_traits>

#include "ptx.cuh"
#include "vector.cuh"

namespace polar::kernels {

constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Elements of a piece of T: 16 bytes.
template <class T>
constexpr int kPiece = Vector<T>::kCount;

// A piece on its way from memory. `whole`: all of it is there and aligned for one access; else elements <
// valid are, one by one, and the others count as 0. First load() for all pieces that are needed, then get():
// a thread waits for memory where it first uses what it has loaded.
template <bool whole, class T>
struct Piece;
template <class T>
struct Piece<true, T> {
  uint4 raw;
  __device__ __forceinline__ void load(const T* from, int64_t /*valid*/) { raw = load_global16(from); }
  __device__ __forceinline__ void zero() { raw = make_uint4(0, 0, 0, 0); }
  __device__ __forceinline__ void get(float (&out)[kPiece<T>]) const {
    Vector<T> vector;
    unpack(raw, vector);
#pragma unroll
    for (int i = 0; i < kPiece<T>; ++i) out[i] = vector.value[i];
  }
};
template <class T>
struct Piece<false, T> {
  float value[kPiece<T>];
  __device__ __forceinline__ void load(const T* from, int64_t valid) {
#pragma unroll
    for (int i = 0; i < kPiece<T>; ++i) value[i] = i < valid ? to_float(from[i]) : 0.0f;
  }
  __device__ __forceinline__ void zero() {
#pragma unroll
    for (int i = 0; i < kPiece<T>; ++i) value[i] = 0.0f;
  }
  __device__ __forceinline__ void get(float (&out)[kPiece<T>]) const {
#pragma unroll
    for (int i = 0; i < kPiece<T>; ++i) out[i] = value[i];
  }
};

// out[i] = from[i] for i < valid, 0 above: `valid` counts what is left of the row and may be more than the
// width, or less than none. `whole`: all are there, and from is aligned to 16 bytes (8 bytes for four bf16).
template <bool whole, int width, class T>
__device__ __forceinline__ void load_piece(const T* from, int64_t valid, float (&out)[width]) {
  if constexpr (whole && width % kPiece<T> == 0) {
#pragma unroll
    for (int i = 0; i < width; i += kPiece<T>) {
      Vector<T> vector;
      unpack(load_global16(from + i), vector);
#pragma unroll
      for (int k = 0; k < kPiece<T>; ++k) out[i + k] = vector.value[k];
    }
  } else if constexpr (whole && width * sizeof(T) == 8) {
    const uint2 raw = load_global8(from);
    out[0] = unpack_low(raw.x);
    out[1] = unpack_high(raw.x);
    out[2] = unpack_low(raw.y);
    out[3] = unpack_high(raw.y);
  } else {
#pragma unroll
    for (int i = 0; i < width; ++i) out[i] = i < valid ? to_float(from[i]) : 0.0f;
  }
}

// to[i] = value[i] for i < valid, rounded to nearest even.
template <bool whole, int width, class T>
__device__ __forceinline__ void store_piece(T* to, int64_t valid, const float (&value)[width]) {
  if constexpr (whole && width % kPiece<T> == 0) {
#pragma unroll
    for (int i = 0; i < width; i += kPiece<T>) {
      Vector<T> vector;
#pragma unroll
      for (int k = 0; k < kPiece<T>; ++k) vector.value[k] = value[i + k];
      store_global16(to + i, pack(vector));
    }
  } else if constexpr (whole && width * sizeof(T) == 8) {
    store_global8(to, make_uint2(pack_bf16(value[0], value[1]), pack_bf16(value[2], value[3])));
  } else {
#pragma unroll
    for (int i = 0; i < width; ++i)
      if (i < valid) to[i] = from_float<T>(value[i]);
  }
}

// The same where only the thread knows whether its piece is whole: `aligned` speaks of the array.
template <int width, class T>
__device__ __forceinline__ void load_piece(const T* from, int64_t valid, bool aligned, float (&out)[width]) {
  if (aligned && valid >= width)
    load_piece<true>(from, valid, out);
  else
    load_piece<false>(from, valid, out);
}
template <int width, class T>
__device__ __forceinline__ void store_piece(T* to, int64_t valid, bool aligned, const float (&value)[width]) {
  if (aligned && valid >= width)
    store_piece<true>(to, valid, value);
  else
    store_piece<false>(to, valid, value);
}

// Calls body(std::true_type) for a whole piece, else body(std::false_type): one branch for all that the body
// loads.
template <class Body>
__device__ __forceinline__ void for_piece(bool whole, const Body& body) {
  if (whole)
    body(std::true_type{});
  else
    body(std::false_type{});
}

// F64 has no piece of its own: its arrays are small.
template <bool whole, int width>
__device__ __forceinline__ void load_piece(const double* from, int64_t valid, double (&out)[width]) {
#pragma unroll
  for (int i = 0; i < width; ++i) out[i] = i < valid ? from[i] : 0.0;
}
template <bool whole, int width>
__device__ __forceinline__ void store_piece(double* to, int64_t valid, const double (&value)[width]) {
#pragma unroll
  for (int i = 0; i < width; ++i)
    if (i < valid) to[i] = value[i];
}

// For launchers: may this array, or this matrix with rows `stride` elements apart, be read in 16-byte pieces?
// Null pointers (operands that are not there) may.
template <class T>
inline bool pieces_aligned(const T* pointer, int64_t stride = 0) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && stride * static_cast<int64_t>(sizeof(T)) % 16 == 0;
}

}  // namespace polar::kernels
