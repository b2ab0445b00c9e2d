// Launchers of the per-head RMSNorm (optional) and rotary embedding of queries or keys. T in {float, bf16};
// strides in elements. HF's half-split layout: element j of a head turns with element j + head_dim / 2.
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace polar::kernels {

constexpr int64_t kMaximumRopeHeadDim = 256;  // head_dim is even and at most this

struct RopeShape {
  int64_t rows, heads, head_dim;
  int64_t time, first_position;  // row r has position first_position + r % time
  float eps;
  const float* table;  // (positions, head_dim): cos for j < head_dim / 2, then sin
};

// output (rows, heads * head_dim) = rope(norm(input)); may be the input itself.
template <class T>
cudaError_t qk_norm_rope_forward(const RopeShape& shape, const T* input, int64_t input_stride,
                                 const T* weight, T* output, int64_t output_stride, cudaStream_t stream);

// gradient: on entry of the output, on exit of the input, in place. With a weight (head_dim): dweight
// (head_dim) +=, `input` is the forward input, `partials` holds qk_norm_rope_backward_partials(...) values.
// Without (null) the three are not used.
template <class T>
cudaError_t qk_norm_rope_backward(const RopeShape& shape, const T* input, int64_t input_stride,
                                  const T* weight, T* gradient, int64_t gradient_stride, float* dweight,
                                  float* partials, cudaStream_t stream);
int64_t qk_norm_rope_backward_partials(int64_t rows, int64_t heads, int64_t head_dim);

}  // namespace polar::kernels
