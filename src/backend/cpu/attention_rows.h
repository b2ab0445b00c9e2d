// How attention's forward and backward pass reach the rows of q, k, v and their gradients: the place of a
// head, padding to whole vectors, the choice of a specialised head width, and the contracts both share.
#pragma once

#include <algorithm>

#include "backend/cpu/attention_tile.h"
#include "ops/ops.h"

namespace polar::cpu::attention {

// Rows of a tensor as a panel whose width is a whole number of vectors: the rows themselves where head_dim is
// known and whole (kHeadDim > 0), otherwise a copy in `buffer`, padded with zeros.
template <class T, int kHeadDim>
Panel<const T> padded_rows(const T* from, int64_t stride, int64_t rows, int64_t head_dim, Panel<T> buffer) {
  if constexpr (kHeadDim > 0) return {from, stride};
  for (int64_t i = 0; i < rows; ++i) {
    std::copy_n(from + i * stride, head_dim, buffer.row(i));
    std::fill(buffer.row(i) + head_dim, buffer.row(i) + buffer.stride, T(0));
  }
  return buffer;
}

// Widths of the scratch panels: head_dim in whole vectors, known at compile time where it is one of the
// usual.
template <class T, int kHeadDim>
int64_t padded_width(int64_t head_dim) {
  constexpr int64_t vector = Simd<T>::kLanes;
  return kHeadDim > 0 ? kHeadDim : (head_dim + vector - 1) / vector * vector;
}
template <int kHeadDim>
constexpr int64_t kScratchWidth = kHeadDim > 0 ? kHeadDim : kMaxHeadDim;

// Calls body(std::integral_constant<int, D>{}) for the specialised head widths, with 0 for any other.
template <class Body>
void dispatch_head_dim(int64_t head_dim, const Body& body) {
  switch (head_dim) {
    case 32:
      return body(std::integral_constant<int, 32>{});
    case 64:
      return body(std::integral_constant<int, 64>{});
    case 96:
      return body(std::integral_constant<int, 96>{});
    case 128:
      return body(std::integral_constant<int, 128>{});
    default:
      return body(std::integral_constant<int, 0>{});
  }
}

// Row `time` of sequence `batch`, head `head`.
template <class T>
T* head_row(const MatrixView& x, int64_t times, int64_t batch, int64_t time, int64_t head, int64_t head_dim) {
  return static_cast<T*>(x.data) + (batch * times + time) * x.stride + head * head_dim;
}

// Contracts that forward and backward share (the names are those of AttentionForward).
void check_inputs(const AttentionShape& shape, const MatrixView& q, const MatrixView& k, const MatrixView& v,
                  const Tensor& document_starts);
void check_matrix(const MatrixView& x, DType dtype, int64_t rows, int64_t cols, const char* what);

}  // namespace polar::cpu::attention
