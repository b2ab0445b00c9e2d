// Operations on batches of equally shaped matrices for the polar iterations. Launchers of polar_norms.cu and
// polar_products.cu. T is float or bf16; matrices are contiguous, one after the other: (batch, m, n). A
// matrix gives the same bits alone and in any place of a batch.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace polar::kernels {

// out[i] (f64) = <x_i, y_i>, in f64. `partials`: polar_partials(batch, count) f64; count = m n.
template <class T>
cudaError_t polar_inner(const T* x, const T* y, int64_t batch, int64_t count, double* out, double* partials,
                        cudaStream_t stream);
// x_i *= 1 / (safety ||x_i||_F + eps), the norm in f64; a zero matrix stays zero.
template <class T>
cudaError_t polar_normalize(T* x, int64_t batch, int64_t count, double safety, double eps, double* partials,
                            cudaStream_t stream);
int64_t polar_partials(int64_t batch, int64_t count);

// a (batch, s, s) = x x^T if m <= n, else x^T x; s = min(m, n). Exactly symmetric.
template <class T>
cudaError_t polar_gram(const T* x, T* a, int64_t batch, int64_t m, int64_t n, cudaStream_t stream);
// b (batch, s, s) = c1 a + c2 a a^T, which for symmetric a is c1 a + c2 a^2. Exactly symmetric.
template <class T>
cudaError_t polar_polynomial(const T* a, float c1, float c2, T* b, int64_t batch, int64_t size,
                             cudaStream_t stream);
// y = c0 x + b x if m <= n, else c0 x + x b; b (batch, s, s).
template <class T>
cudaError_t polar_apply(const T* x, float c0, const T* b, T* y, int64_t batch, int64_t m, int64_t n,
                        cudaStream_t stream);

}  // namespace polar::kernels
