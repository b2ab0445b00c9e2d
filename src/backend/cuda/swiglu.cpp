// SwiGLU: silu(gate) * up of the two halves of a row.
#include "kernels/swiglu.h"

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::swiglu_forward(const MatrixView& gate_up, const MatrixView& out) {
  require(gate_up.cols == 2 * out.cols && gate_up.rows == out.rows && gate_up.dtype == out.dtype,
          "swiglu_forward: gate_up (N, 2I), out (N, I)");
  dispatch(out.dtype, "swiglu_forward", [&]<class T>(T) {
    CUDA_CHECK(kernels::swiglu_forward(pointer<const T>(gate_up), gate_up.stride, pointer<T>(out), out.stride,
                                       out.rows, out.cols, stream_.get()));
  });
}

void CudaOps::swiglu_backward(const MatrixView& dout, const MatrixView& gate_up, const MatrixView& dgate_up) {
  require(gate_up.cols == 2 * dout.cols && gate_up.rows == dout.rows && gate_up.dtype == dout.dtype,
          "swiglu_backward: gate_up (N, 2I), dout (N, I)");
  require(same_shape(gate_up, dgate_up), "swiglu_backward: dgate_up (N, 2I), dout (N, I)");
  dispatch(dout.dtype, "swiglu_backward", [&]<class T>(T) {
    CUDA_CHECK(kernels::swiglu_backward(pointer<const T>(dout), dout.stride, pointer<const T>(gate_up),
                                        gate_up.stride, pointer<T>(dgate_up), dgate_up.stride, dout.rows,
                                        dout.cols, stream_.get()));
  });
}

}  // namespace polar::cuda
