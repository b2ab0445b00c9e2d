// Vector registers in the language of the compiler (GCC's vector extensions): loads, stores and the
// transposition of a square of registers. What the machine lacks the compiler builds from what it has.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

namespace polar::cpu {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct Simd {
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  using Bits = std::make_unsigned_t<Int>;
  typedef T Vector __attribute__((vector_size(kVectorBytes)));
  typedef Int IntVector __attribute__((vector_size(kVectorBytes)));
  typedef Bits BitsVector __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vector = typename Simd<T>::Vector;

template <class T>
inline Vector<T> load(const T* from) {
  Vector<T> value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
template <class T>
inline void store(T* to, Vector<T> value) {
  std::memcpy(to, &value, sizeof(value));
}
template <class T>
inline Vector<T> broadcast(T value) {
  return value - Vector<T>{};  // x - 0 is x, also for -0: the compiler leaves nothing of it
}

// One exchange of a transposition by halving: in every pair of blocks of `kStep` lanes, the right block of
// the first row changes places with the left block of the second.
template <class T, int kStep>
inline void exchange(Vector<T>& a, Vector<T>& b) {
  constexpr int lanes = Simd<T>::kLanes;
  typename Simd<T>::IntVector to_a, to_b;
  for (int i = 0; i < lanes; ++i) {
    to_a[i] = (i & kStep) == 0 ? i : lanes + i - kStep;
    to_b[i] = (i & kStep) == 0 ? i + kStep : lanes + i;
  }
  const Vector<T> old = a;
  a = __builtin_shuffle(old, b, to_a);
  b = __builtin_shuffle(old, b, to_b);
}
template <class T, int kStep = 1>
inline void transpose_square(Vector<T>* rows) {
  if constexpr (kStep < Simd<T>::kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < Simd<T>::kLanes; ++i)
      if ((i & kStep) == 0) exchange<T, kStep>(rows[i], rows[i + kStep]);
    transpose_square<T, 2 * kStep>(rows);
  }
}

}  // namespace polar::cpu
