// What is done around the factorizations of the polar oracles (cuSOLVER's, which sees columns where these
// matrices have rows). Launchers of polar_solve.cu. Matrices are contiguous, one after the other; up to 65535
// of them. A matrix gives the same bits alone and in any place of a batch.
#pragma once

#include <cstdint>

#include "types.h"

namespace polar::kernels {

// stacked (batch, s, l + s) = [top x^T | bottom I] for tall x (batch, m, n), m >= n, and [top x | bottom I]
// for wide x; s = min(m, n), l = max(m, n). By columns that is [top x; bottom I] with x or its transpose.
cudaError_t polar_stack(const float* x, int64_t batch, int64_t m, int64_t n, float top, float bottom,
                        float* stacked, cudaStream_t stream);
// to (batch, n, m) = the transposes of x (batch, m, n)
cudaError_t polar_transpose(const float* x, int64_t batch, int64_t m, int64_t n, float* to,
                            cudaStream_t stream);
// a (batch, size, size) = scale a + shift I, in place
cudaError_t polar_shift(float* a, int64_t batch, int64_t size, float scale, float shift, cudaStream_t stream);
// p (batch, size, size) = sum_k factors[k] v_k v_k^T, where v_k is the row k of `vectors` (batch, size,
// size), factors (batch, size). In f64, rounded at the end; exactly symmetric.
cudaError_t polar_spectral(const double* vectors, const double* factors, int64_t batch, int64_t size,
                           float* p, cudaStream_t stream);

}  // namespace polar::kernels
