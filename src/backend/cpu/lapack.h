// The functions of LAPACK that this backend calls, by element type. Matrices are column-major, `ld` is the
// distance of two columns; a row-major (m, n) matrix is a column-major (n, m) one.
#pragma once

#include <cblas.h>  // blasint, the integers of LAPACK

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#define POLAR_LAPACK(T, p)                                                                                  \
  extern "C" void p##gelqf_(const blasint* m, const blasint* n, T* a, const blasint* lda, T* tau, T* work,  \
                            const blasint* lwork, blasint* info);                                           \
  extern "C" void p##orglq_(const blasint* m, const blasint* n, const blasint* k, T* a, const blasint* lda, \
                            const T* tau, T* work, const blasint* lwork, blasint* info);                    \
  extern "C" void p##geqrf_(const blasint* m, const blasint* n, T* a, const blasint* lda, T* tau, T* work,  \
                            const blasint* lwork, blasint* info);                                           \
  extern "C" void p##orgqr_(const blasint* m, const blasint* n, const blasint* k, T* a, const blasint* lda, \
                            const T* tau, T* work, const blasint* lwork, blasint* info);                    \
  extern "C" void p##potrf_(const char* uplo, const blasint* n, T* a, const blasint* lda, blasint* info)
POLAR_LAPACK(float, s);
POLAR_LAPACK(double, d);
#undef POLAR_LAPACK
extern "C" void dgesdd_(const char* job, const blasint* m, const blasint* n, double* a, const blasint* lda,
                        double* s, double* u, const blasint* ldu, double* vt, const blasint* ldvt,
                        double* work, const blasint* lwork, blasint* iwork, blasint* info);
extern "C" void dsyevd_(const char* job, const char* uplo, const blasint* n, double* a, const blasint* lda,
                        double* w, double* work, const blasint* lwork, blasint* iwork, const blasint* liwork,
                        blasint* info);

namespace polar::cpu {

// LAPACK gives no answer to what is not finite, or none that can be used.
template <class T>
bool all_finite(const T* values, int64_t count) {
  constexpr int64_t kLook = 4096;  // values without a branch between them
  for (int64_t begin = 0; begin < count; begin += kLook) {
    int bad = 0;
#pragma omp simd reduction(| : bad)
    for (int64_t i = begin; i < std::min(count, begin + kLook); ++i)
      bad |= !(std::abs(values[i]) <= std::numeric_limits<T>::max());
    if (bad != 0) return false;
  }
  return true;
}

template <class T>
struct Lapack;
template <>
struct Lapack<float> {
  static constexpr auto gelqf = sgelqf_;
  static constexpr auto orglq = sorglq_;
  static constexpr auto geqrf = sgeqrf_;
  static constexpr auto orgqr = sorgqr_;
  static constexpr auto potrf = spotrf_;
};
template <>
struct Lapack<double> {
  static constexpr auto gelqf = dgelqf_;
  static constexpr auto orglq = dorglq_;
  static constexpr auto geqrf = dgeqrf_;
  static constexpr auto orgqr = dorgqr_;
  static constexpr auto potrf = dpotrf_;
};

}  // namespace polar::cpu
