// Attention: softmax(scale q k^T + mask) v with grouped heads, forward and backward. Launchers of
// attention_forward.cu, attention_backward.cu and, for Hopper, attention_forward_sm90.cu and
// attention_backward_sm90.cu.
//
// B batch, Tq queries and Tk keys of a sequence (equal but while decoding with a cache), Hq a multiple of
// Hkv, D head width: 32, 64, 96 or 128 (others: cudaErrorInvalidValue). Query i sits at position Tk - Tq + i
// and sees the keys j <= position with j > position - window (window > 0) and j >= document_starts[i]. T is
// float or bf16. Rows may be strided; pointers are 16-byte aligned, strides whole numbers of 16 bytes.
#pragma once

#include <cstdint>

#include "types.h"

namespace polar::kernels {

struct AttentionSizes {
  int batch, query_time, key_time, heads_q, heads_kv, head_dim;
  int window;   // 0: none
  float scale;  // > 0
};

// Rows of a matrix: (B * time, heads * D), consecutive rows `stride` elements apart.
template <class T>
struct AttentionRows {
  T* data;
  int64_t stride;
};

template <class T>
struct AttentionForwardArguments {
  AttentionSizes sizes;
  AttentionRows<const T> q, k, v;
  const int32_t* document_starts;  // (B, Tq), or null
  AttentionRows<T> output;         // =
  float* lse;                      // (B, Hq, Tq) = log sum exp of the scaled, masked scores; or null
};
template <class T>
cudaError_t attention_forward(const AttentionForwardArguments<T>& arguments, cudaStream_t stream);

// The same for Hopper, where there is one: chosen by attention_forward.
bool has_attention_forward_sm90(int head_dim);
cudaError_t attention_forward_sm90(const AttentionForwardArguments<bf16>& arguments, cudaStream_t stream);

// Needs Tq = Tk. The same inputs give the same bits: no atomics, every sum in one order.
template <class T>
struct AttentionBackwardArguments {
  AttentionSizes sizes;
  AttentionRows<const T> q, k, v;
  const int32_t* document_starts;
  AttentionRows<const T> output, doutput;
  const float* lse;
  AttentionRows<T> dq, dk, dv;  // =
  void* workspace;              // attention_backward_workspace(sizes) bytes, 16-byte aligned
};
template <class T>
cudaError_t attention_backward(const AttentionBackwardArguments<T>& arguments, cudaStream_t stream);

// The same for Hopper, where there is one: chosen by attention_backward, which has prepared the workspace.
bool has_attention_backward_sm90(int head_dim);
cudaError_t attention_backward_sm90(const AttentionBackwardArguments<bf16>& arguments, cudaStream_t stream);

size_t attention_backward_workspace(const AttentionSizes& sizes);

}  // namespace polar::kernels
