// Rows and flat arrays in pieces of `width` elements, a thread each: 16-byte accesses where pointers and
// strides allow them (`aligned`, which the launcher finds out), single elements elsewhere and at a row's end.
// Which element is computed by whom is the same either way, so alignment changes no bit of a result.
#pragma once

#include "vector.cuh"

namespace polar::kernels {

constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Elements of a piece of T: 16 bytes.
template <class T>
constexpr int kPiece = Vector<T>::kCount;

// out[i] = from[i] for i < valid, 0 above: `valid` counts what is left of the row and may be more than the
// width, or less than none. `aligned`: from + any multiple of width may be read with accesses of 16 bytes (8
// bytes for four bf16).
template <int width, class T>
__device__ __forceinline__ void load_piece(const T* from, int64_t valid, bool aligned, float (&out)[width]) {
  if constexpr (width % kPiece<T> == 0) {
    if (aligned && valid >= width) {
#pragma unroll
      for (int i = 0; i < width; i += kPiece<T>) {
        const Vector<T> vector = load_vector(from + i);
#pragma unroll
        for (int k = 0; k < kPiece<T>; ++k) out[i + k] = vector.value[k];
      }
      return;
    }
  } else if constexpr (width * sizeof(T) == 8) {
    if (aligned && valid >= width) {
      const uint2 raw = *reinterpret_cast<const uint2*>(from);
      out[0] = unpack_low(raw.x);
      out[1] = unpack_high(raw.x);
      out[2] = unpack_low(raw.y);
      out[3] = unpack_high(raw.y);
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < width; ++i) out[i] = i < valid ? to_float(from[i]) : 0.0f;
}

// to[i] = value[i] for i < valid, rounded to nearest even.
template <int width, class T>
__device__ __forceinline__ void store_piece(T* to, int64_t valid, bool aligned, const float (&value)[width]) {
  if constexpr (width % kPiece<T> == 0) {
    if (aligned && valid >= width) {
#pragma unroll
      for (int i = 0; i < width; i += kPiece<T>) {
        Vector<T> vector;
#pragma unroll
        for (int k = 0; k < kPiece<T>; ++k) vector.value[k] = value[i + k];
        store_vector(to + i, vector);
      }
      return;
    }
  } else if constexpr (width * sizeof(T) == 8) {
    if (aligned && valid >= width) {
      *reinterpret_cast<uint2*>(to) =
          make_uint2(pack_bf16(value[0], value[1]), pack_bf16(value[2], value[3]));
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < width; ++i)
    if (i < valid) to[i] = from_float<T>(value[i]);
}

// F64 has no piece of its own: its arrays are small.
template <int width>
__device__ __forceinline__ void load_piece(const double* from, int64_t valid, bool, double (&out)[width]) {
#pragma unroll
  for (int i = 0; i < width; ++i) out[i] = i < valid ? from[i] : 0.0;
}
template <int width>
__device__ __forceinline__ void store_piece(double* to, int64_t valid, bool, const double (&value)[width]) {
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
