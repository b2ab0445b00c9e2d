// SwiGLU: silu(gate) * up of the two halves of a row.
#include <algorithm>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/parallel.h"
#include "backend/cpu/vector_math.h"

namespace polar::cpu {

void swiglu_forward(const MatrixView& gate_up, const MatrixView& out) {
  const int64_t width = out.cols;
  require(gate_up.cols == 2 * width && gate_up.rows == out.rows && gate_up.dtype == out.dtype,
          "swiglu_forward: gate_up (N, 2I), out (N, I)");
  dispatch(out.dtype, "swiglu_forward", [&]<class T>(T) {
    parallel_ranges(out.rows, std::max<int64_t>(1, kTaskElements / width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* gate = static_cast<const T*>(gate_up.data) + i * gate_up.stride;
        const T* up = gate + width;
        T* y = static_cast<T*>(out.data) + i * out.stride;
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) y[j] = gate[j] * vector_math::sigmoid(gate[j]) * up[j];
      }
    });
  });
}

void swiglu_backward(const MatrixView& dout, const MatrixView& gate_up, const MatrixView& dgate_up) {
  const int64_t width = dout.cols;
  require(gate_up.cols == 2 * width && gate_up.rows == dout.rows && gate_up.dtype == dout.dtype,
          "swiglu_backward: gate_up (N, 2I), dout (N, I)");
  require(dgate_up.cols == 2 * width && dgate_up.rows == dout.rows && dgate_up.dtype == dout.dtype,
          "swiglu_backward: dgate_up (N, 2I), dout (N, I)");
  dispatch(dout.dtype, "swiglu_backward", [&]<class T>(T) {
    parallel_ranges(dout.rows, std::max<int64_t>(1, kTaskElements / width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const T* dy = static_cast<const T*>(dout.data) + i * dout.stride;
        const T* x = static_cast<const T*>(gate_up.data) + i * gate_up.stride;
        T* dx = static_cast<T*>(dgate_up.data) + i * dgate_up.stride;
#pragma omp simd
        for (int64_t j = 0; j < width; ++j) {
          const T gate = x[j], up = x[width + j];
          const T sigmoid = vector_math::sigmoid(gate);
          dx[j] = dy[j] * up * sigmoid * (T(1) + gate * (T(1) - sigmoid));
          dx[width + j] = dy[j] * gate * sigmoid;
        }
      }
    });
  });
}

}  // namespace polar::cpu
