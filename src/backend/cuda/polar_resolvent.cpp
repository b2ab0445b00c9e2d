// x (shift I + scale x^T x)^{-1}, the step of the rational polar iterations, in F32. What lies around the
// factorizations is done for the whole batch at once; cuSOLVER takes one matrix after the other. The host
// waits once, to look for NaN and infinity, before anything is written to y.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/dense_solver.h"
#include "kernels/polar_solve.h"

namespace polar::cuda {
namespace {

struct Sizes {
  int64_t batch, rows, cols, small, large;
  Sizes(int64_t batch_, int64_t m, int64_t n)
      : batch(batch_), rows(m), cols(n), small(std::min(m, n)), large(std::max(m, n)) {}
  int64_t stacked() const { return large + small; }  // rows of [x; I]
  int64_t matrix() const { return rows * cols; }
  int64_t square() const { return small * small; }
};

// cuSOLVER says what its workspace has to be only where there is a GPU. A plan for one that is not here
// counts with this, and where there is one at least this is reserved, so that both plans are the same.
// (Q of a QR factorization needs 128 a row.)
int64_t planned_work(const Sizes& sizes) {
  return 160 * (sizes.stacked() + sizes.small) + 65536;
}

int64_t asked_work(const DenseSolver& solver, const Sizes& sizes) {
  return std::max(solver.qr_work(sizes.stacked(), sizes.small), solver.cholesky_work(sizes.small));
}

// The workspace in F32, each part aligned to 256 bytes.
struct Layout {
  int64_t matrices, tau, work, reports, total;

  // `matrices` are the stacked ones of the QR form, or the squares of the Cholesky form and behind them the
  // transposed x, together as large.
  Layout(const Sizes& sizes, int64_t work_elements)
      : matrices(aligned(sizes.batch * sizes.stacked() * sizes.small)),
        tau(aligned(sizes.small)),
        work(aligned(work_elements)),
        reports(aligned(sizes.batch)),
        total(aligned(1)) {}

  static int64_t aligned(int64_t elements) { return (elements + 63) / 64 * 64; }
  int64_t elements() const { return matrices + tau + work + reports + total; }
  size_t bytes() const { return static_cast<size_t>(elements()) * sizeof(float); }
};

struct Call {
  CudaOps& ops;
  const DenseSolver& solver;
  const PolarResolvent& args;
  Sizes sizes;
  float *matrices, *tau;
  DenseSolver::Work<float> work;
  int* reports;  // a matrix each
  Tensor total;  // f64 (1)

  Call(CudaOps& ops_, const DenseSolver& solver_, const PolarResolvent& args_, const Sizes& sizes_,
       const Layout& layout)
      : ops(ops_),
        solver(solver_),
        args(args_),
        sizes(sizes_),
        matrices(args.workspace.as<float>()),
        tau(matrices + layout.matrices),
        work{tau + layout.tau, layout.work},
        reports(reinterpret_cast<int*>(work.memory + layout.work)),
        total{reports + layout.reports, DType::f64, {1}} {}

  const Stream& stream() const { return ops.stream(); }
  float* y(int64_t i) const { return args.y.as<float>() + i * sizes.matrix(); }

  // Throws unless `total` is finite: the sum in f64 of f32 values is finite if and only if they are.
  void check_total() const {
    double sum = 0.0;
    ops.download(&sum, total);
    if (!std::isfinite(sum)) fail_for_values();
  }
  [[noreturn]] void fail_for_values() const {
    fail(
        "polar_resolvent: a matrix of {} holds NaN or infinity, or the weights do not suit it; use another "
        "oracle or a lower learning rate",
        args.x.shape.text());
  }
};

// With [sqrt(scale) x; sqrt(shift) I] = [Q1; Q2] R the result is Q1 Q2^T / sqrt(scale shift), for wide x with
// its transpose in the place of x and transposed. Q by columns is [Q1^T | Q2^T] by rows.
void solve_by_qr(const Call& call) {
  const Sizes& sizes = call.sizes;
  const double scale = call.args.scale, shift = call.args.shift;
  const int64_t stacked = sizes.stacked() * sizes.small;
  CUDA_CHECK(kernels::polar_stack(call.args.x.as<const float>(), sizes.batch, sizes.rows, sizes.cols,
                                  static_cast<float>(std::sqrt(scale)), static_cast<float>(std::sqrt(shift)),
                                  call.matrices, call.stream().get()));
  call.ops.sum({call.matrices, DType::f32, {sizes.batch * stacked}}, call.total, false);
  call.check_total();
  for (int64_t i = 0; i < sizes.batch; ++i) {
    float* matrix = call.matrices + i * stacked;
    call.solver.qr(sizes.stacked(), sizes.small, matrix, call.tau, call.work, call.reports + i,
                   call.stream());
    const MatrixView q{matrix, DType::f32, sizes.small, sizes.stacked(), sizes.stacked()};
    const MatrixView q1 = q.columns(0, sizes.large), q2 = q.columns(sizes.large, sizes.small);
    const bool tall = sizes.rows >= sizes.cols;
    call.ops.gemm(Transpose::yes, Transpose::no, 1.0 / std::sqrt(scale * shift), tall ? q1 : q2,
                  tall ? q2 : q1, 0.0, {call.y(i), DType::f32, sizes.rows, sizes.cols, sizes.cols});
  }
}

// Throws unless every square was finite and has a factor.
void check_factors(const Call& call) {
  std::vector<int> infos(static_cast<size_t>(call.sizes.batch));
  CUDA_CHECK(cudaMemcpyAsync(infos.data(), call.reports, infos.size() * sizeof(int), cudaMemcpyDeviceToHost,
                             call.stream().get()));
  call.check_total();  // waits
  if (std::any_of(infos.begin(), infos.end(), [](int info) { return info != 0; })) call.fail_for_values();
}

// Z = shift I + scale x^T x (or x x^T), then Z y^T = x^T for tall x and Z y = x for others. cuSOLVER wants
// what it solves for by columns: tall x is that as it lies there. Others are transposed before and after,
// which costs two passes over memory; the product with an explicit Z^{-1} instead would cost Z's inversion,
// and its error would not be that of a solution, column by column, but that of the inverse.
void solve_by_cholesky(const Call& call) {
  const Sizes& sizes = call.sizes;
  const Tensor &x = call.args.x, &y = call.args.y;
  const Tensor squares{call.matrices, DType::f32, {sizes.batch, sizes.small, sizes.small}};
  call.ops.polar_gram(x, squares, PolarPrecision::full);
  CUDA_CHECK(kernels::polar_shift(call.matrices, sizes.batch, sizes.small,
                                  static_cast<float>(call.args.scale), static_cast<float>(call.args.shift),
                                  call.stream().get()));
  call.ops.sum(squares, call.total, false);
  for (int64_t i = 0; i < sizes.batch; ++i)
    call.solver.cholesky(sizes.small, call.matrices + i * sizes.square(), call.work, call.reports + i,
                         call.stream());
  check_factors(call);
  const bool tall = sizes.rows > sizes.cols;  // of a square x polar_gram has made x x^T
  float* const solved = tall ? y.as<float>() : call.matrices + sizes.batch * sizes.square();
  if (tall)
    call.ops.copy(x, y);
  else
    CUDA_CHECK(kernels::polar_transpose(x.as<const float>(), sizes.batch, sizes.rows, sizes.cols, solved,
                                        call.stream().get()));
  for (int64_t i = 0; i < sizes.batch; ++i)
    call.solver.solve(sizes.small, sizes.large, call.matrices + i * sizes.square(),
                      solved + i * sizes.matrix(), call.reports + i, call.stream());
  if (!tall)
    CUDA_CHECK(kernels::polar_transpose(solved, sizes.batch, sizes.cols, sizes.rows, y.as<float>(),
                                        call.stream().get()));
}

}  // namespace

void CudaOps::polar_resolvent(const PolarResolvent& args) {
  const Tensor& x = args.x;
  require(x.shape.rank() == 3 && x.shape == args.y.shape && x.dtype == DType::f32 &&
              args.y.dtype == DType::f32 && x.data != args.y.data,
          "polar_resolvent: x and y (batch, m, n), F32, two places");
  require(args.scale > 0.0 && args.shift > 0.0, "polar_resolvent: positive scale and shift");
  require(x.shape[0] <= 65535, "polar_resolvent: a batch of up to 65535 matrices");
  if (x.count() == 0) return;
  waits_ = true;
  const Sizes sizes(x.shape[0], x.shape[1], x.shape[2]);
  const Layout layout(sizes, std::max(planned_work(sizes), asked_work(dense_solver(), sizes)));
  require(args.workspace.bytes() >= layout.bytes(), "polar_resolvent: workspace too small");
  const Call call(*this, dense_solver(), args, sizes, layout);
  if (args.by == Factorization::qr)
    solve_by_qr(call);
  else
    solve_by_cholesky(call);
}

size_t CudaOps::polar_resolvent_workspace(int64_t batch, int64_t m, int64_t n, DType /*dtype*/) const {
  if (batch * m * n == 0) return 0;
  const Sizes sizes(batch, m, n);
  const int64_t asked = device_ < 0 ? 0 : asked_work(dense_solver(), sizes);
  return Layout(sizes, std::max(planned_work(sizes), asked)).bytes();
}

}  // namespace polar::cuda
