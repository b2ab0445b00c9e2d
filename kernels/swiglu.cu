// SwiGLU of the two halves of a row, a thread a piece. Arithmetic in float.
// Floor in bytes an element of `out` of size s: forward 3 s (gate and up read, out written; =), backward 5 s
// (dout, gate and up read, both gradients written; =, in place if wanted).
#include "swiglu.h"

#include "pieces.cuh"

namespace polar::kernels {

constexpr int kSwigluThreads = 128;

// For bf16 results the hardware's approximations (some 1e-6 relative) are far below a rounding.
template <class T>
__device__ __forceinline__ float swiglu_sigmoid(float x) {
  if constexpr (sizeof(T) == sizeof(bf16))
    return __fdividef(1.0f, 1.0f + __expf(-x));
  else
    return 1.0f / (1.0f + expf(-x));
}

template <class T>
dim3 swiglu_grid(int64_t rows, int64_t width) {
  return {static_cast<unsigned>(rows),
          static_cast<unsigned>(divide_up(width, int64_t{kSwigluThreads} * kPiece<T>))};
}
template <class T>
__device__ __forceinline__ int64_t swiglu_column() {
  return (static_cast<int64_t>(blockIdx.y) * kSwigluThreads + threadIdx.x) * kPiece<T>;
}

template <class T>
__global__ void __launch_bounds__(kSwigluThreads)
    swiglu_forward_kernel(const T* gate_up, int64_t gate_up_stride, T* out, int64_t out_stride, int64_t width,
                          bool aligned) {
  const int64_t row = blockIdx.x, col = swiglu_column<T>(), valid = width - col;
  if (valid <= 0) return;
  const T* from = gate_up + row * gate_up_stride + col;
  for_piece(aligned && valid >= kPiece<T>, [&](auto whole) {
    float gate[kPiece<T>], up[kPiece<T>];
    load_piece<whole.value>(from, valid, gate);
    load_piece<whole.value>(from + width, valid, up);
#pragma unroll
    for (int i = 0; i < kPiece<T>; ++i) up[i] *= gate[i] * swiglu_sigmoid<T>(gate[i]);
    store_piece<whole.value>(out + row * out_stride + col, valid, up);
  });
}

template <class T>
__global__ void __launch_bounds__(kSwigluThreads)
    swiglu_backward_kernel(const T* dout, int64_t dout_stride, const T* gate_up, int64_t gate_up_stride,
                           T* dgate_up, int64_t dgate_up_stride, int64_t width, bool aligned) {
  const int64_t row = blockIdx.x, col = swiglu_column<T>(), valid = width - col;
  if (valid <= 0) return;
  const T* from = gate_up + row * gate_up_stride + col;
  T* to = dgate_up + row * dgate_up_stride + col;
  for_piece(aligned && valid >= kPiece<T>, [&](auto whole) {
    float dy[kPiece<T>], gate[kPiece<T>], up[kPiece<T>];
    load_piece<whole.value>(dout + row * dout_stride + col, valid, dy);
    load_piece<whole.value>(from, valid, gate);
    load_piece<whole.value>(from + width, valid, up);
#pragma unroll
    for (int i = 0; i < kPiece<T>; ++i) {
      const float s = swiglu_sigmoid<T>(gate[i]), x = gate[i];
      gate[i] = dy[i] * up[i] * s * (1.0f + x * (1.0f - s));
      up[i] = dy[i] * x * s;
    }
    store_piece<whole.value>(to, valid, gate);
    store_piece<whole.value>(to + width, valid, up);
  });
}

template <class T>
cudaError_t swiglu_forward(const T* gate_up, int64_t gate_up_stride, T* out, int64_t out_stride, int64_t rows,
                           int64_t width, cudaStream_t stream) {
  const bool aligned = pieces_aligned(gate_up, gate_up_stride) && pieces_aligned(gate_up + width) &&
                       pieces_aligned(out, out_stride);
  return device_launch(LaunchConfig(swiglu_grid<T>(rows, width), kSwigluThreads, 0, stream),
                       &swiglu_forward_kernel<T>, gate_up, gate_up_stride, out, out_stride, width, aligned);
}

template <class T>
cudaError_t swiglu_backward(const T* dout, int64_t dout_stride, const T* gate_up, int64_t gate_up_stride,
                            T* dgate_up, int64_t dgate_up_stride, int64_t rows, int64_t width,
                            cudaStream_t stream) {
  const bool aligned = pieces_aligned(dout, dout_stride) && pieces_aligned(gate_up, gate_up_stride) &&
                       pieces_aligned(gate_up + width) && pieces_aligned(dgate_up, dgate_up_stride) &&
                       pieces_aligned(dgate_up + width);
  return device_launch(LaunchConfig(swiglu_grid<T>(rows, width), kSwigluThreads, 0, stream),
                       &swiglu_backward_kernel<T>, dout, dout_stride, gate_up, gate_up_stride, dgate_up,
                       dgate_up_stride, width, aligned);
}

#define INSTANTIATE(T)                                                                                    \
  template cudaError_t swiglu_forward<T>(const T*, int64_t, T*, int64_t, int64_t, int64_t, cudaStream_t); \
  template cudaError_t swiglu_backward<T>(const T*, int64_t, const T*, int64_t, T*, int64_t, int64_t,     \
                                          int64_t, cudaStream_t);
INSTANTIATE(float)
INSTANTIATE(bf16)
#undef INSTANTIATE

}  // namespace polar::kernels
