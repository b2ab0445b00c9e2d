// Softmax cross-entropy of rows of logits, and its gradient in their place. Launcher of cross_entropy.cu.
#pragma once

#include <cstdint>

#include "types.h"

namespace polar::kernels {

// V logits a row, T = float or bf16; rows `stride` elements apart (a whole number of 16 bytes, as the
// pointer). With softcap c > 0 a logit x counts as y = c tanh(x / c). For a row with target t:
//   lse = log sum_j exp(y_j),   loss = lse - y_t,   logits_j = gradient_scale d(loss + z_loss lse^2)/dx_j.
// A row whose target is ignore_index has loss 0 and gradient 0; one with any other target outside [0, V) has
// the loss NaN (a step's guard skips on it).
template <class T>
struct CrossEntropyRows {
  int64_t rows, vocabulary, stride;
  T* logits;  // = gradient, when `gradient`; else unchanged
  const int32_t* targets;
  int32_t ignore_index;
  float z_loss, softcap, gradient_scale;
  bool gradient;
  float* losses;  // (rows) =
  float* lse;     // (rows) =, of ignored rows too; or null
};
template <class T>
cudaError_t cross_entropy_rows(const CrossEntropyRows<T>& arguments, cudaStream_t stream);

}  // namespace polar::kernels
