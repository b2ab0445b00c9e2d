// Inverses of symmetric positive definite matrices whose work is in matrix products (gemm_product.h).
//
// A = L L^T by LAPACK, X = L^{-1} by halves, [L11 0; L21 L22]^{-1} = [X11 0; -X22 L21 X11, X22], and
// A^{-1} = X^T X: the steps of LAPACK's potri, s^3 FLOPs together.
//
// L has the backward error of Cholesky's, a few units of roundoff u of ||A|| (Higham, Accuracy and Stability
// of Numerical Algorithms, theorem 10.3), which costs A^{-1} its condition times u: E becomes A^{-1} E
// A^{-1}. X is off by some u |X| |L| |X| (section 14.2), A^{-1} by |X^T| times that and by u |X^T| |X|.
#pragma once

#include <cstdint>

namespace polar::cpu {

// a (size, size), of which the lower triangle counts, becomes its inverse, both triangles; in the calling
// thread. scratch: size * size elements. False if a is not positive definite to working precision; a is
// garbage then.
template <class T>
bool invert_definite(int64_t size, T* a, T* scratch);

}  // namespace polar::cpu
