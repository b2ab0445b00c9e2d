// 16-byte accesses: a Vector<T> is what one load or store moves, 4 floats or 8 bf16, computed with as floats.
#pragma once

#include "device.cuh"

namespace polar::kernels {

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(bf16 x) {
  return __bfloat162float(x);
}
// Rounds to nearest, ties to even.
template <class T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (sizeof(T) == sizeof(bf16))
    return __float2bfloat16(x);
  else
    return x;
}

// Two floats as bf16 in one word, the first in the lower half; and back.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ float unpack_low(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float unpack_high(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}

template <class T>
struct Vector {
  static constexpr int kCount = 16 / static_cast<int>(sizeof(T));
  float value[kCount];
};

__device__ __forceinline__ void unpack(const uint4& raw, Vector<float>& out) {
  out.value[0] = __uint_as_float(raw.x);
  out.value[1] = __uint_as_float(raw.y);
  out.value[2] = __uint_as_float(raw.z);
  out.value[3] = __uint_as_float(raw.w);
}
__device__ __forceinline__ void unpack(const uint4& raw, Vector<bf16>& out) {
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    out.value[2 * i] = unpack_low(words[i]);
    out.value[2 * i + 1] = unpack_high(words[i]);
  }
}
__device__ __forceinline__ uint4 pack(const Vector<float>& in) {
  return make_uint4(__float_as_uint(in.value[0]), __float_as_uint(in.value[1]), __float_as_uint(in.value[2]),
                    __float_as_uint(in.value[3]));
}
__device__ __forceinline__ uint4 pack(const Vector<bf16>& in) {
  return make_uint4(pack_bf16(in.value[0], in.value[1]), pack_bf16(in.value[2], in.value[3]),
                    pack_bf16(in.value[4], in.value[5]), pack_bf16(in.value[6], in.value[7]));
}

// One 16-byte access; the address has to be 16-byte aligned (aligned_for_vectors).
template <class T>
__device__ __forceinline__ Vector<T> load_vector(const T* from) {
  Vector<T> out;
  unpack(*reinterpret_cast<const uint4*>(from), out);
  return out;
}
template <class T>
__device__ __forceinline__ void store_vector(T* to, const Vector<T>& value) {
  *reinterpret_cast<uint4*>(to) = pack(value);
}

// Whether rows of a matrix can be read in 16-byte pieces: its pointer and its row stride (in elements) allow
// it (for the host: launchers choose their kernel by it). A row's last, incomplete piece is the kernel's
// business.
template <class T>
__host__ __device__ inline bool aligned_for_vectors(const T* pointer, int64_t stride) {
  return reinterpret_cast<uintptr_t>(pointer) % 16 == 0 && stride % Vector<T>::kCount == 0;
}

}  // namespace polar::kernels
