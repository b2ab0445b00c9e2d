// Powers of symmetric matrices by cuSOLVER's divide-and-conquer eigenvalues, in F64 as on the CPU: the
// squares of an ill-conditioned gradient have eigenvalues that F32 does not hold apart. The host waits twice:
// to look for NaN before anything is computed, and for the eigenvalues, whose powers it takes.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/dense_solver.h"
#include "kernels/polar_solve.h"

namespace polar::cuda {
namespace {

// As for the other factorizations: counted with where there is no GPU to ask, at least reserved where there
// is one. The divide-and-conquer method works on squares.
int64_t planned_work(int64_t size) {
  return 3 * size * size + 64 * size + 65536;
}

// The workspace in F64, each part aligned to 256 bytes.
struct Layout {
  int64_t vectors, values, work, reports, total;

  Layout(int64_t batch, int64_t size, int64_t work_elements)
      : vectors(aligned(batch * size * size)),
        values(aligned(batch * size)),
        work(aligned(work_elements)),
        reports(aligned((batch + 1) / 2)),
        total(aligned(1)) {}

  static int64_t aligned(int64_t elements) { return (elements + 31) / 32 * 32; }
  int64_t elements() const { return vectors + values + work + reports + total; }
  size_t bytes() const { return static_cast<size_t>(elements()) * sizeof(double); }
};

struct Arrays {
  double *vectors, *values;
  DenseSolver::Work<double> work;
  int* reports;
  Tensor total;

  Arrays(double* memory, const Layout& layout)
      : vectors(memory),
        values(vectors + layout.vectors),
        work{values + layout.values, layout.work},
        reports(reinterpret_cast<int*>(work.memory + layout.work)),
        total{work.memory + layout.work + layout.reports, DType::f64, {1}} {}
};

// The eigenvalues of all matrices; throws unless they are there.
std::vector<double> checked_values(const Tensor& a, const Arrays& arrays, const Stream& stream) {
  std::vector<double> values(static_cast<size_t>(a.shape[0] * a.shape[1]));
  std::vector<int> infos(static_cast<size_t>(a.shape[0]));
  CUDA_CHECK(cudaMemcpyAsync(values.data(), arrays.values, values.size() * sizeof(double),
                             cudaMemcpyDeviceToHost, stream.get()));
  CUDA_CHECK(cudaMemcpyAsync(infos.data(), arrays.reports, infos.size() * sizeof(int), cudaMemcpyDeviceToHost,
                             stream.get()));
  stream.synchronize();
  const bool done = std::all_of(infos.begin(), infos.end(), [](int info) { return info == 0; }) &&
                    std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
  if (!done)
    fail("symmetric_power: the eigenvalues of a matrix of {} did not converge; use another oracle",
         a.shape.text());
  return values;
}

// Of the values of one matrix, which ascend, in place.
void take_powers(double* values, int64_t size, double exponent, double shift) {
  if (shift > 0.0) {
    for (int64_t k = 0; k < size; ++k) values[k] = std::pow(std::max(values[k], 0.0) + shift, exponent);
    return;
  }
  const double threshold = static_cast<double>(size) *
                           static_cast<double>(std::numeric_limits<float>::epsilon()) *
                           std::max(values[size - 1], 0.0);
  for (int64_t k = 0; k < size; ++k) values[k] = values[k] > threshold ? std::pow(values[k], exponent) : 0.0;
}

}  // namespace

void CudaOps::symmetric_power(const Tensor& a, double exponent, const Tensor& p, const Tensor& workspace,
                              double shift) {
  require(a.shape.rank() == 3 && a.shape[1] == a.shape[2] && a.shape == p.shape && a.dtype == DType::f32 &&
              p.dtype == DType::f32,
          "symmetric_power: a and p (batch, s, s), F32");
  require(a.shape[0] <= 65535, "symmetric_power: a batch of up to 65535 matrices");
  const int64_t batch = a.shape[0], size = a.shape[1];
  if (a.count() == 0) return;
  waits_ = true;
  const Layout layout(batch, size, std::max(planned_work(size), dense_solver().eigen_work(size)));
  require(workspace.bytes() >= layout.bytes(), "symmetric_power: workspace too small");
  const Arrays arrays(workspace.as<double>(), layout);
  double all = 0.0;
  sum(a, arrays.total, false);  // in f64: finite if and only if a is
  download(&all, arrays.total);
  if (!std::isfinite(all))
    fail("symmetric_power: a matrix of {} holds NaN or infinity; use another oracle or a lower learning rate",
         a.shape.text());
  cast(a, {arrays.vectors, DType::f64, a.shape});
  for (int64_t i = 0; i < batch; ++i)
    dense_solver().eigen(size, arrays.vectors + i * size * size, arrays.values + i * size, arrays.work,
                         arrays.reports + i, stream_);
  std::vector<double> factors = checked_values(a, arrays, stream_);
  for (int64_t i = 0; i < batch; ++i) take_powers(factors.data() + i * size, size, exponent, shift);
  upload({arrays.values, DType::f64, {batch * size}}, factors.data());
  CUDA_CHECK(
      kernels::polar_spectral(arrays.vectors, arrays.values, batch, size, p.as<float>(), stream_.get()));
}

size_t CudaOps::symmetric_power_workspace(int64_t batch, int64_t size, DType /*dtype*/) const {
  if (batch * size == 0) return 0;
  const int64_t asked = device_ < 0 ? 0 : dense_solver().eigen_work(size);
  return Layout(batch, size, std::max(planned_work(size), asked)).bytes();
}

}  // namespace polar::cuda
