// Launchers of SwiGLU. T in {float, bf16}; matrices are row-major, strides in elements. `width` is I: a row
// of gate_up and dgate_up holds gate (I), then up (I).
#pragma once

#include <cstddef>
#include <cstdint>

#include "types.h"

namespace polar::kernels {

// out (rows, width) = silu(gate) * up
template <class T>
cudaError_t swiglu_forward(const T* gate_up, int64_t gate_up_stride, T* out, int64_t out_stride, int64_t rows,
                           int64_t width, cudaStream_t stream);
// dgate_up = the gradient of gate_up; may be the same memory as gate_up.
template <class T>
cudaError_t swiglu_backward(const T* dout, int64_t dout_stride, const T* gate_up, int64_t gate_up_stride,
                            T* dgate_up, int64_t dgate_up_stride, int64_t rows, int64_t width,
                            cudaStream_t stream);

}  // namespace polar::kernels
