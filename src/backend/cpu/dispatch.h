// Dtype dispatch of the CPU backend: every operation is a template over float (the product) and double
// (tests).
#pragma once

#include <utility>

#include "base/error.h"
#include "tensor/tensor.h"

namespace polar::cpu {

// Calls body(T{}) with T = float or double.
template <class Body>
void dispatch(DType dtype, const char* operation, Body&& body) {
  if (dtype == DType::f32) {
    std::forward<Body>(body)(float{});
  } else if (dtype == DType::f64) {
    std::forward<Body>(body)(double{});
  } else {
    fail("{}: the CPU backend computes in F32 or F64, not {}", operation, name_of(dtype));
  }
}

// A violated contract of an operation: a defect of the calling code.
inline void require(bool condition, const char* what) {
  if (!condition) fail("contract violated: {}", what);
}

}  // namespace polar::cpu
