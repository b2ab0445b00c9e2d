// The exact orthogonal factor. It is computed in F64 as on the CPU: in F32 the factor of an ill-conditioned
// gradient would be off by far more than its rounding. One matrix after the other, each with a wait for the
// host to look at cuSOLVER's report and at the singular values: an oracle to compare with, not a fast one.
#include "backend/cuda/svd.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"

namespace polar::cuda {
namespace {

constexpr cusolverEigMode_t kVectors = CUSOLVER_EIG_MODE_VECTOR;
constexpr int kEconomy = 1;  // min(m, n) singular vectors

int as_int(int64_t size) {
  require(size > 0 && size <= std::numeric_limits<int>::max(), "polar_svd: sides between 1 and 2^31 - 1");
  return static_cast<int>(size);
}

// cuSOLVER says what its workspace has to be only where there is a GPU. A plan for one that is not here
// counts with this, and where there is one at least this is reserved, so that both plans are the same.
int64_t planned_work(int64_t m, int64_t n) {
  const int64_t small = std::min(m, n);
  return 2 * m * n + 4 * small * small + 32 * (m + n) + 16384;
}

// What one matrix needs, in this order, each part aligned to 256 bytes. Matrices use it in turn.
struct Layout {
  int64_t m, n, small, matrix, u, v, s, report, work;

  Layout(int64_t m_, int64_t n_, int64_t work_elements)
      : m(m_),
        n(n_),
        small(std::min(m, n)),
        matrix(std::max(aligned(m * n), aligned((small * n + 1) / 2) + aligned((small * m + 1) / 2))),
        u(aligned(small * n)),
        v(aligned(small * m)),
        s(aligned(small)),
        report(aligned(1)),
        work(aligned(work_elements)) {}

  static int64_t aligned(int64_t elements) { return (elements + 31) / 32 * 32; }
  int64_t elements() const { return matrix + u + v + s + report + work; }
  size_t bytes() const { return static_cast<size_t>(elements()) * sizeof(double); }

  SvdArrays arrays(double* memory) const {
    SvdArrays out;
    out.a = memory;
    out.u = out.a + matrix;
    out.v = out.u + u;
    out.s = out.v + v;
    out.info = reinterpret_cast<int*>(out.s + s);
    out.work = out.s + s + report;
    return out;
  }
};

// The singular values of a matrix; throws unless they are there.
std::vector<double> checked_values(const Layout& layout, const SvdArrays& arrays, const Stream& stream) {
  std::vector<double> values(static_cast<size_t>(layout.small));
  int info = 0;
  CUDA_CHECK(cudaMemcpyAsync(values.data(), arrays.s, values.size() * sizeof(double), cudaMemcpyDeviceToHost,
                             stream.get()));
  CUDA_CHECK(cudaMemcpyAsync(&info, arrays.info, sizeof info, cudaMemcpyDeviceToHost, stream.get()));
  stream.synchronize();
  const bool finite = std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
  if (info != 0 || !finite)
    fail(
        "polar_svd: cuSOLVER's gesvdj returned info {} for a matrix of {} x {}: the iteration did not "
        "converge; use another oracle or a lower learning rate",
        info, layout.m, layout.n);
  return values;
}

// Singular values above small * eps * largest; the zero matrix has none. BF16 values are taken as exact.
int64_t rank_of(const std::vector<double>& descending) {
  const double threshold = static_cast<double>(descending.size()) *
                           static_cast<double>(std::numeric_limits<float>::epsilon()) * descending.front();
  return std::count_if(descending.begin(), descending.end(), [&](double s) { return s > threshold; });
}

}  // namespace

Svd::Svd() : handle_(make_solver_handle()) {
  gesvdjInfo_t parameters = nullptr;
  CUSOLVER_CHECK(solver_library().create_parameters(&parameters));
  parameters_.reset(parameters);
}

int64_t Svd::work_elements(int64_t m, int64_t n) const {
  const int rows = as_int(n), cols = as_int(m);
  int elements = 0;
  CUSOLVER_CHECK(solver_library().svd_buffer_size(handle_.get(), kVectors, kEconomy, rows, cols, nullptr,
                                                  rows, nullptr, nullptr, rows, nullptr, cols, &elements,
                                                  parameters_.get()));
  return elements;
}

void Svd::factorize(int64_t m, int64_t n, const SvdArrays& arrays, int64_t work_elements,
                    const Stream& stream) const {
  const int rows = as_int(n), cols = as_int(m);
  const SolverLibrary& library = solver_library();
  CUSOLVER_CHECK(library.set_stream(handle_.get(), stream.get()));
  CUSOLVER_CHECK(library.svd(handle_.get(), kVectors, kEconomy, rows, cols, arrays.a, rows, arrays.s,
                             arrays.u, rows, arrays.v, cols, arrays.work, as_int(work_elements), arrays.info,
                             parameters_.get()));
}

const Svd& CudaOps::svd() const {
  if (svd_ == nullptr) {
    use_device(device_);
    svd_ = std::make_unique<Svd>();
  }
  return *svd_;
}

void CudaOps::polar_svd(const Tensor& x, const Tensor& u, const Tensor& workspace, const Tensor& values) {
  require(x.shape.rank() == 3 && x.shape == u.shape && x.dtype == u.dtype && x.dtype != DType::f64,
          "polar_svd: x and u (batch, m, n), both F32 or BF16");
  require(!values ||
              (values.dtype == DType::f64 && values.count() == x.shape[0] * std::min(x.shape[1], x.shape[2])),
          "polar_svd: values F64 (batch, min(m, n))");
  const int64_t batch = x.shape[0], m = x.shape[1], n = x.shape[2];
  if (x.count() == 0) return;
  waits_ = true;
  const int64_t work = svd().work_elements(m, n);
  const Layout layout(m, n, std::max(work, planned_work(m, n)));
  require(workspace.bytes() >= layout.bytes(), "polar_svd: workspace too small");
  const SvdArrays arrays = layout.arrays(workspace.as<double>());
  // Before anything is computed, so that a NaN is told and gets no further.
  const Tensor total{arrays.s, DType::f64, {1}};
  double all = 0.0;
  sum(x, total, false);
  download(&all, total);
  if (!std::isfinite(all))
    fail("polar_svd: a matrix of {} holds NaN or infinity; use another oracle or a lower learning rate",
         x.shape.text());
  for (int64_t i = 0; i < batch; ++i) {
    cast(x.slice(i * m * n, {m, n}), {arrays.a, DType::f64, {m, n}});
    svd().factorize(m, n, arrays, work, stream_);
    const int64_t rank = rank_of(checked_values(layout, arrays, stream_));
    if (values) copy({arrays.s, DType::f64, {layout.small}}, values.slice(i * layout.small, {layout.small}));
    // The factor (m, n) is v u^T over the first `rank` vectors; the columns of both are rows in row-major
    // terms.
    auto* left = reinterpret_cast<float*>(arrays.a);
    auto* right = left + 2 * Layout::aligned((layout.small * m + 1) / 2);
    auto* product = reinterpret_cast<float*>(arrays.u);  // when u has been read
    cast({arrays.v, DType::f64, {layout.small * m}}, {left, DType::f32, {layout.small * m}});
    cast({arrays.u, DType::f64, {layout.small * n}}, {right, DType::f32, {layout.small * n}});
    if (rank < layout.small) fill({left + rank * m, DType::f32, {(layout.small - rank) * m}}, 0.0);
    const Tensor out = u.slice(i * m * n, {m, n});
    const Tensor exact = out.dtype == DType::f32 ? out : Tensor{product, DType::f32, {m, n}};
    gemm(Transpose::yes, Transpose::no, 1.0, {left, DType::f32, layout.small, m, m},
         {right, DType::f32, layout.small, n, n}, 0.0, exact);
    if (out.dtype != DType::f32) cast(exact, out);
  }
}

size_t CudaOps::polar_svd_workspace(int64_t batch, int64_t m, int64_t n, DType /*dtype*/) const {
  if (batch * m * n == 0) return 0;
  const int64_t planned = planned_work(m, n);
  const int64_t asked = device_ < 0 ? 0 : svd().work_elements(m, n);
  return Layout(m, n, std::max(planned, asked)).bytes();
}

}  // namespace polar::cuda
