// Operations on batches of equally shaped matrices for the polar iterations. Launchers of polar_norms.cu,
// polar_scaling.cu and polar_products.cu. T is float or bf16; matrices are contiguous, one after the other:
// (batch, m, n). A matrix gives the same bits alone and in any place of a batch.
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
// x_i *= sqrt(before_i / ||x_i||^2): what brings a matrix back to an old norm. `before`, `partials` as many
// f64 as polar_partials each; before: as polar_squares wrote it.
template <class T>
cudaError_t polar_restore_norm(T* x, int64_t batch, int64_t count, const double* before, double* partials,
                               cudaStream_t stream);
// The parts of the sums of squares: f64, polar_partials(batch, count) of them.
template <class T>
cudaError_t polar_squares(const T* x, int64_t batch, int64_t count, double* partials, cudaStream_t stream);

// polar_scaling.cu. NorMuon's first half: squares (batch, max(m, n)) = beta squares + (1 - beta) mean square
// of each neuron (row if m >= n, else column) unless `apply` (in device memory) is 0; the neuron times 1 /
// sqrt(max(squares, 1e-10)).
template <class T>
cudaError_t scale_neurons(T* x, float* squares, int64_t batch, int64_t m, int64_t n, double beta,
                          const double* apply, cudaStream_t stream);
// AOL: factors (batch, s) = (row sums of |a|)^{-1/2}, 0 for 0; a = f a f; short side of x times f.
template <class T>
cudaError_t polar_precondition(T* x, T* a, double* factors, int64_t batch, int64_t m, int64_t n,
                               cudaStream_t stream);
// -1, 0 or 1 of each element, NaN of NaN.
template <class T>
cudaError_t sign(T* x, int64_t count, cudaStream_t stream);

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
