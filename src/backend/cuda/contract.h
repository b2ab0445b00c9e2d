// What the operations of this backend check before they launch: dtypes and shapes of their arguments.
#pragma once

#include <cuda_bf16.h>

#include <utility>

#include "base/error.h"
#include "kernels/types.h"
#include "tensor/tensor.h"

namespace polar::cuda {

using kernels::bf16;

// Calls body(T{}) with T = float or bf16: the dtypes of activations and weights.
template <class Body>
void dispatch(DType dtype, const char* operation, Body&& body) {
  if (dtype == DType::f32) {
    std::forward<Body>(body)(float{});
  } else if (dtype == DType::bf16) {
    std::forward<Body>(body)(bf16{});
  } else {
    fail("{}: the CUDA backend computes in F32 or BF16, not {}", operation, name_of(dtype));
  }
}

// A violated contract of an operation: a defect of the calling code.
inline void require(bool condition, const char* what) {
  if (!condition) fail("contract violated: {}", what);
}

[[noreturn]] inline void not_written_yet(const char* operation) {
  fail("{}: not in the CUDA backend yet", operation);
}

inline bool is(const Tensor& x, DType dtype, int64_t count) {
  return x.dtype == dtype && x.count() == count;
}

template <class T>
T* pointer(const MatrixView& x) {
  return static_cast<T*>(x.data);
}

inline bool same_shape(const MatrixView& a, const MatrixView& b) {
  return a.rows == b.rows && a.cols == b.cols && a.dtype == b.dtype;
}

}  // namespace polar::cuda
