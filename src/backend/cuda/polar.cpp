// The polar family: contracts, then the launchers of kernels/polar.h.
#include "kernels/polar.h"

#include <algorithm>

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {
namespace {

void require_batch(const Tensor& x) {
  constexpr int64_t kMaximumBatch = 65535;  // gridDim.y
  require(x.shape.rank() == 3, "polar: a batch of matrices (batch, m, n)");
  require(x.shape[0] <= kMaximumBatch, "polar: a batch of up to 65535 matrices");
}

void require_square(const Tensor& a, int64_t batch, int64_t size) {
  require(a.shape.rank() == 3 && a.shape[0] == batch && a.shape[1] == size && a.shape[2] == size,
          "polar: a batch of square matrices (batch, s, s), s the short side of x");
}

// The partial sums of a batch lie in the backend's scratch: room for 2,048 matrices of any size, more of
// small ones.
void require_room(int64_t batch, int64_t count, size_t scratch_bytes) {
  require(static_cast<size_t>(kernels::polar_partials(batch, count)) <= scratch_bytes / sizeof(double),
          "polar: a batch of up to 2048 large matrices");
}

}  // namespace

void CudaOps::polar_normalize(const Tensor& x, double safety, double eps) {
  require_batch(x);
  const int64_t batch = x.shape[0], count = x.shape[1] * x.shape[2];
  require_room(batch, count, kScratchBytes);
  auto* partials = reinterpret_cast<double*>(workspace());
  dispatch(x.dtype, "polar_normalize", [&]<class T>(T) {
    CUDA_CHECK(kernels::polar_normalize(x.as<T>(), batch, count, safety, eps, partials, stream_.get()));
  });
}

void CudaOps::polar_inner(const Tensor& x, const Tensor& y, const Tensor& out) {
  require_batch(x);
  const int64_t batch = x.shape[0], count = x.shape[1] * x.shape[2];
  require(x.shape == y.shape && x.dtype == y.dtype, "polar_inner: same shape and dtype");
  require(is(out, DType::f64, batch), "polar_inner: out F64 (batch)");
  require_room(batch, count, kScratchBytes);
  auto* partials = reinterpret_cast<double*>(workspace());
  dispatch(x.dtype, "polar_inner", [&]<class T>(T) {
    CUDA_CHECK(kernels::polar_inner(x.as<const T>(), y.as<const T>(), batch, count, out.as<double>(),
                                    partials, stream_.get()));
  });
}

void CudaOps::polar_gram(const Tensor& x, const Tensor& a, PolarPrecision /*precision*/) {
  require_batch(x);
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2];
  require(x.dtype == a.dtype, "polar_gram: one dtype");
  require_square(a, batch, std::min(m, n));
  dispatch(x.dtype, "polar_gram", [&]<class T>(T) {
    CUDA_CHECK(kernels::polar_gram(x.as<const T>(), a.as<T>(), batch, m, n, stream_.get()));
  });
}

void CudaOps::polar_polynomial(const Tensor& a, double c1, double c2, const Tensor& b,
                               PolarPrecision /*precision*/) {
  require_batch(a);
  const int64_t batch = a.shape[0], size = a.shape[1];
  require(a.dtype == b.dtype, "polar_polynomial: one dtype");
  require_square(a, batch, size);
  require_square(b, batch, size);
  dispatch(a.dtype, "polar_polynomial", [&]<class T>(T) {
    CUDA_CHECK(kernels::polar_polynomial(a.as<const T>(), static_cast<float>(c1), static_cast<float>(c2),
                                         b.as<T>(), batch, size, stream_.get()));
  });
}

void CudaOps::polar_apply(const Tensor& x, double c0, const Tensor& b, const Tensor& y,
                          PolarPrecision /*precision*/) {
  require_batch(x);
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2];
  require(x.shape == y.shape && x.dtype == y.dtype && x.dtype == b.dtype,
          "polar_apply: x and y (batch, m, n), one dtype");
  require_square(b, batch, std::min(m, n));
  dispatch(x.dtype, "polar_apply", [&]<class T>(T) {
    CUDA_CHECK(kernels::polar_apply(x.as<const T>(), static_cast<float>(c0), b.as<const T>(), y.as<T>(),
                                    batch, m, n, stream_.get()));
  });
}

void CudaOps::polar_precondition(const Tensor& x, const Tensor& a, const Tensor& factors) {
  require_batch(x);
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2], s = std::min(m, n);
  require(a.dtype == x.dtype, "polar_precondition: one dtype");
  require_square(a, batch, s);
  require(is(factors, DType::f64, batch * s), "polar_precondition: factors F64 (batch, s)");
  dispatch(x.dtype, "polar_precondition", [&]<class T>(T) {
    CUDA_CHECK(
        kernels::polar_precondition(x.as<T>(), a.as<T>(), factors.as<double>(), batch, m, n, stream_.get()));
  });
}

void CudaOps::normalize_neurons(const Tensor& x, const Tensor& squares, double beta, const Tensor& control) {
  require_batch(x);
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2], count = m * n;
  require(is(squares, DType::f32, batch * std::max(m, n)),
          "normalize_neurons: squares F32 (batch, max(m, n))");
  require(is(control, DType::f64, kControlSize), "control is F64 (kControlSize)");
  require_room(2 * batch, count, kScratchBytes);
  auto* before = reinterpret_cast<double*>(workspace());
  double* after = before + kernels::polar_partials(batch, count);
  dispatch(x.dtype, "normalize_neurons", [&]<class T>(T) {
    T* matrices = x.as<T>();
    CUDA_CHECK(kernels::polar_squares(static_cast<const T*>(matrices), batch, count, before, stream_.get()));
    CUDA_CHECK(kernels::scale_neurons(matrices, squares.as<float>(), batch, m, n, beta,
                                      control.as<const double>() + kControlApply, stream_.get()));
    CUDA_CHECK(kernels::polar_restore_norm(matrices, batch, count, before, after, stream_.get()));
  });
}

void CudaOps::sign(const Tensor& x) {
  dispatch(x.dtype, "sign",
           [&]<class T>(T) { CUDA_CHECK(kernels::sign(x.as<T>(), x.count(), stream_.get())); });
}

}  // namespace polar::cuda
