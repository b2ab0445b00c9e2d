// BLAS and LAPACK by one name for both dtypes. BLAS matrices are row-major, LAPACK's column-major.
#pragma once

#include <cblas.h>

#include <cstdint>

namespace polar::cpu::blas {

// c (m, n) = alpha op(a) op(b) + beta c
inline void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int64_t m, int64_t n, int64_t k, float alpha,
                 const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c,
                 int64_t ldc) {
  cblas_sgemm(CblasRowMajor, ta, tb, static_cast<blasint>(m), static_cast<blasint>(n),
              static_cast<blasint>(k), alpha, a, static_cast<blasint>(lda), b, static_cast<blasint>(ldb),
              beta, c, static_cast<blasint>(ldc));
}
inline void gemm(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, int64_t m, int64_t n, int64_t k, double alpha,
                 const double* a, int64_t lda, const double* b, int64_t ldb, double beta, double* c,
                 int64_t ldc) {
  cblas_dgemm(CblasRowMajor, ta, tb, static_cast<blasint>(m), static_cast<blasint>(n),
              static_cast<blasint>(k), alpha, a, static_cast<blasint>(lda), b, static_cast<blasint>(ldb),
              beta, c, static_cast<blasint>(ldc));
}

// Lower triangle of c (n, n) = alpha op(a) op(a)^T + beta c, op(a) (n, k)
inline void syrk_lower(CBLAS_TRANSPOSE ta, int64_t n, int64_t k, float alpha, const float* a, int64_t lda,
                       float beta, float* c, int64_t ldc) {
  cblas_ssyrk(CblasRowMajor, CblasLower, ta, static_cast<blasint>(n), static_cast<blasint>(k), alpha, a,
              static_cast<blasint>(lda), beta, c, static_cast<blasint>(ldc));
}
inline void syrk_lower(CBLAS_TRANSPOSE ta, int64_t n, int64_t k, double alpha, const double* a, int64_t lda,
                       double beta, double* c, int64_t ldc) {
  cblas_dsyrk(CblasRowMajor, CblasLower, ta, static_cast<blasint>(n), static_cast<blasint>(k), alpha, a,
              static_cast<blasint>(lda), beta, c, static_cast<blasint>(ldc));
}

}  // namespace polar::cpu::blas
