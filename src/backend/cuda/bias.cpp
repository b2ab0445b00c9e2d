// Biases of the rows of a matrix.
#include "kernels/bias.h"

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::add_bias(const MatrixView& y, const Tensor& bias) {
  require(is(bias, y.dtype, y.cols), "add_bias: one bias a column");
  dispatch(y.dtype, "add_bias", [&]<class T>(T) {
    CUDA_CHECK(kernels::add_bias(pointer<T>(y), y.stride, bias.as<const T>(), y.rows, y.cols, stream_.get()));
  });
}

void CudaOps::bias_backward(const MatrixView& dy, const Tensor& dbias) {
  require(is(dbias, DType::f32, dy.cols), "bias_backward: one F32 bias a column");
  dispatch(dy.dtype, "bias_backward", [&]<class T>(T) {
    CUDA_CHECK(kernels::bias_backward(pointer<const T>(dy), dy.stride, dbias.as<float>(), dy.rows, dy.cols,
                                      scratch<float>(), kScratchBytes, stream_.get()));
  });
}

}  // namespace polar::cuda
