// Flat operations: one pass over memory each.
#include "kernels/flat.h"

#include <bit>

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {
namespace {

// The bits of one element of value `value`.
uint64_t element_bits(DType dtype, double value) {
  switch (dtype) {
    case DType::f64:
      return std::bit_cast<uint64_t>(value);
    case DType::f32:
      return std::bit_cast<uint32_t>(static_cast<float>(value));
    case DType::bf16:
      return __bfloat16_as_ushort(__double2bfloat16(value));
    case DType::i32:
      break;
  }
  return static_cast<uint32_t>(static_cast<int32_t>(value));
}

// Calls body(T{}) with T = float, double or bf16: what flat operations are done on.
template <class Body>
void dispatch_flat(DType dtype, const char* operation, Body&& body) {
  if (dtype == DType::f64)
    std::forward<Body>(body)(double{});
  else
    dispatch(dtype, operation, std::forward<Body>(body));
}

void require_scalar(const Tensor& out) {
  require(is(out, DType::f64, 1), "the result of a reduction is one F64 element");
}

}  // namespace

void CudaOps::fill(const Tensor& x, double value) {
  const uint64_t bits = element_bits(x.dtype, value);
  if (bits == 0)
    CUDA_CHECK(cudaMemsetAsync(x.data, 0, x.bytes(), stream_.get()));
  else
    CUDA_CHECK(kernels::fill(x.data, static_cast<int>(size_of(x.dtype)), bits, x.count(), stream_.get()));
}

void CudaOps::copy(const Tensor& from, const Tensor& to) {
  require(from.dtype == to.dtype && from.count() == to.count(), "copy: same dtype and count");
  CUDA_CHECK(cudaMemcpyAsync(to.data, from.data, from.bytes(), cudaMemcpyDeviceToDevice, stream_.get()));
}

void CudaOps::copy_rows(const MatrixView& from, const MatrixView& to) {
  require(from.dtype == to.dtype && from.rows == to.rows && from.cols == to.cols, "copy_rows: equal shapes");
  const auto size = static_cast<int64_t>(size_of(from.dtype));
  CUDA_CHECK(kernels::copy_rows(from.data, from.stride * size, to.data, to.stride * size, from.rows,
                                from.cols * size, stream_.get()));
}

void CudaOps::cast(const Tensor& from, const Tensor& to) {
  require(from.count() == to.count(), "cast: same count");
  dispatch_flat(from.dtype, "cast", [&]<class From>(From) {
    dispatch_flat(to.dtype, "cast", [&]<class To>(To) {
      if constexpr (std::is_same_v<From, To>)
        copy(from, to);
      else
        CUDA_CHECK(kernels::cast(from.as<const From>(), to.as<To>(), from.count(), stream_.get()));
    });
  });
}

void CudaOps::scale(const Tensor& x, double factor) {
  dispatch_flat(x.dtype, "scale",
                [&]<class T>(T) { CUDA_CHECK(kernels::scale(x.as<T>(), factor, x.count(), stream_.get())); });
}

void CudaOps::axpby(double a, const Tensor& x, double b, const Tensor& y) {
  require(x.dtype == y.dtype && x.count() == y.count(), "axpby: same dtype and count");
  dispatch_flat(x.dtype, "axpby", [&]<class T>(T) {
    CUDA_CHECK(kernels::axpby(a, x.as<const T>(), b, y.as<T>(), x.count(), stream_.get()));
  });
}

void CudaOps::sum(const Tensor& x, const Tensor& out, bool accumulate) {
  require_scalar(out);
  dispatch_flat(x.dtype, "sum", [&]<class T>(T) {
    CUDA_CHECK(kernels::sum(x.as<const T>(), x.count(), out.as<double>(), accumulate, scratch<double>(),
                            stream_.get()));
  });
}

void CudaOps::sum_squares(const Tensor& x, const Tensor& out, bool accumulate) {
  dot(x, x, out, accumulate);
}

void CudaOps::dot(const Tensor& x, const Tensor& y, const Tensor& out, bool accumulate) {
  static_assert(kernels::kMaximumPartialSums * sizeof(double) <= kScratchBytes);
  require_scalar(out);
  require(x.dtype == y.dtype && x.count() == y.count(), "dot: same dtype and count");
  dispatch_flat(x.dtype, "dot", [&]<class T>(T) {
    CUDA_CHECK(kernels::dot(x.as<const T>(), y.as<const T>(), x.count(), out.as<double>(), accumulate,
                            scratch<double>(), stream_.get()));
  });
}

}  // namespace polar::cuda
