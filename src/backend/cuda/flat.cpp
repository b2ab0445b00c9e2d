// Flat operations: one pass over memory each.
#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {

void CudaOps::fill(const Tensor& /*x*/, double /*value*/) {
  not_written_yet("fill");
}

void CudaOps::copy(const Tensor& /*from*/, const Tensor& /*to*/) {
  not_written_yet("copy");
}

void CudaOps::copy_rows(const MatrixView& /*from*/, const MatrixView& /*to*/) {
  not_written_yet("copy_rows");
}

void CudaOps::cast(const Tensor& /*from*/, const Tensor& /*to*/) {
  not_written_yet("cast");
}

void CudaOps::scale(const Tensor& /*x*/, double /*factor*/) {
  not_written_yet("scale");
}

void CudaOps::axpby(double /*a*/, const Tensor& /*x*/, double /*b*/, const Tensor& /*y*/) {
  not_written_yet("axpby");
}

void CudaOps::sum(const Tensor& /*x*/, const Tensor& /*out*/, bool /*accumulate*/) {
  not_written_yet("sum");
}

void CudaOps::sum_squares(const Tensor& /*x*/, const Tensor& /*out*/, bool /*accumulate*/) {
  not_written_yet("sum_squares");
}

void CudaOps::dot(const Tensor& /*x*/, const Tensor& /*y*/, const Tensor& /*out*/, bool /*accumulate*/) {
  not_written_yet("dot");
}

}  // namespace polar::cuda
