// x (shift I + scale x^T x)^{-1}, the step of the rational polar iterations, through LAPACK: one matrix a
// task, each with a scratch space of its own.
#include <algorithm>
#include <cmath>

#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/gemm_product.h"
#include "backend/cpu/lapack.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

constexpr int64_t kMaximumSlots = 16;  // matrices at work at the same time
constexpr blasint kBlock = 64;         // rows that LAPACK's blocked algorithms take together, at most
constexpr const char *kLeft = "L", *kRight = "R", *kLower = "L", *kPlain = "N", *kTurned = "T";

struct Sizes {
  int64_t rows, cols, small, large;
  Sizes(int64_t m, int64_t n) : rows(m), cols(n), small(std::min(m, n)), large(std::max(m, n)) {}
  int64_t stacked() const { return (large + small) * small; }
  int64_t work() const { return kBlock * (large + small); }
  // Elements of a slot: the stacked matrix, the reflectors' factors, LAPACK's space. Of the square that the
  // Cholesky form needs, which has a place of its own, the stacked matrix is never smaller.
  int64_t slot() const { return aligned(stacked()) + aligned(small) + aligned(work()); }
  static int64_t aligned(int64_t elements) { return (elements + 63) / 64 * 64; }
};

[[noreturn]] void fail_for(const Tensor& x) {
  fail(
      "polar_resolvent: a matrix of {} holds NaN or infinity, or the weights do not suit it; use a lower "
      "learning rate",
      x.shape.text());
}

// [sqrt(scale) x; sqrt(shift) I] with x or its transpose on top, whichever has the longer columns.
template <class T>
void stack(const Sizes& sizes, const T* x, double scale, double shift, T* to) {
  const auto factor = static_cast<T>(std::sqrt(scale));
  const bool turned = sizes.rows < sizes.cols;
  for (int64_t i = 0; i < sizes.large; ++i)
    for (int64_t j = 0; j < sizes.small; ++j)
      to[i * sizes.small + j] = factor * (turned ? x[j * sizes.cols + i] : x[i * sizes.cols + j]);
  T* below = to + sizes.large * sizes.small;
  std::fill_n(below, sizes.small * sizes.small, T{0});
  for (int64_t i = 0; i < sizes.small; ++i) below[i * (sizes.small + 1)] = static_cast<T>(std::sqrt(shift));
}

// With [sqrt(scale) x; sqrt(shift) I] = [Q1; Q2] R the result is Q1 Q2^T / sqrt(scale shift). LAPACK sees the
// stacked matrix transposed: R^T Q^T, an LQ factorization.
template <class T>
bool solve_by_qr(const Sizes& sizes, const PolarResolvent& args, const T* x, T* slot, T* y) {
  T* stacked = slot;
  T* tau = stacked + Sizes::aligned(sizes.stacked());
  T* work = tau + Sizes::aligned(sizes.small);
  stack(sizes, x, args.scale, args.shift, stacked);
  const auto small = static_cast<blasint>(sizes.small), all = static_cast<blasint>(sizes.large + sizes.small),
             size = static_cast<blasint>(sizes.work());
  blasint info = 0;
  Lapack<T>::gelqf(&small, &all, stacked, &small, tau, work, &size, &info);
  if (info != 0) return false;
  Lapack<T>::orglq(&small, &all, &small, stacked, &small, tau, work, &size, &info);
  const Operand<T> q1{stacked, sizes.small, false},
      q2{stacked + sizes.large * sizes.small, sizes.small, false};
  const bool turned = sizes.rows < sizes.cols;
  const auto transposed = [](Operand<T> q) {
    q.transposed = true;
    return q;
  };
  multiply(choose_kernel(MatrixProduct<T>{.rows = sizes.rows,
                                          .cols = sizes.cols,
                                          .depth = sizes.small,
                                          .alpha = static_cast<T>(1.0 / std::sqrt(args.scale * args.shift)),
                                          .a = turned ? q2 : q1,
                                          .b = transposed(turned ? q1 : q2),
                                          .beta = 0,
                                          .addend = nullptr,
                                          .addend_stride = 0,
                                          .c = y,
                                          .c_stride = sizes.cols},
                         PolarPrecision::full));
  return info == 0;
}

// `square`: x^T x or x x^T; it becomes the factor of shift I + scale square.
template <class T>
bool solve_by_cholesky(const Sizes& sizes, const PolarResolvent& args, const T* x, T* square, T* y) {
  const auto scale = static_cast<T>(args.scale), shift = static_cast<T>(args.shift);
  for (int64_t i = 0; i < sizes.small * sizes.small; ++i) square[i] *= scale;
  for (int64_t i = 0; i < sizes.small; ++i) square[i * (sizes.small + 1)] += shift;
  const auto small = static_cast<blasint>(sizes.small), large = static_cast<blasint>(sizes.large);
  blasint info = 0;
  Lapack<T>::potrf(kLower, &small, square, &small, &info);
  if (info != 0) return false;
  std::copy_n(x, sizes.rows * sizes.cols, y);
  const T one = 1;
  // For LAPACK's view of a tall x, y (x^T x + ...) = x is L L^T y^T = x^T; of the others, as polar_gram
  // squares them, (x x^T + ...) y = x is y^T L L^T = x^T.
  if (sizes.rows > sizes.cols) {
    Lapack<T>::trsm(kLeft, kLower, kPlain, kPlain, &small, &large, &one, square, &small, y, &small);
    Lapack<T>::trsm(kLeft, kLower, kTurned, kPlain, &small, &large, &one, square, &small, y, &small);
  } else {
    Lapack<T>::trsm(kRight, kLower, kTurned, kPlain, &large, &small, &one, square, &small, y, &large);
    Lapack<T>::trsm(kRight, kLower, kPlain, kPlain, &large, &small, &one, square, &small, y, &large);
  }
  return true;
}

// Runs solve(i, slot) for all matrices, whose slots begin at `memory`.
template <class T, class Solve>
void for_each_matrix(const PolarResolvent& args, const Sizes& sizes, T* memory, const Solve& solve) {
  const int64_t batch = args.x.shape[0], slots = std::min(batch, kMaximumSlots);
  bool failed[kMaximumSlots] = {};
  parallel_for(slots, [&](int64_t s) {
    for (int64_t i = s; i < batch && !failed[s]; i += slots)
      failed[s] = !all_finite(args.x.as<const T>() + i * sizes.rows * sizes.cols, sizes.rows * sizes.cols) ||
                  !solve(i, memory + s * sizes.slot());
  });
  if (std::any_of(failed, failed + slots, [](bool f) { return f; })) fail_for(args.x);
}

}  // namespace

void polar_resolvent(const PolarResolvent& args) {
  const Tensor& x = args.x;
  require(x.shape.rank() == 3 && x.shape == args.y.shape && x.dtype == args.y.dtype && x.data != args.y.data,
          "polar_resolvent: x and y (batch, m, n), one dtype, two places");
  require(args.scale > 0.0 && args.shift > 0.0, "polar_resolvent: positive scale and shift");
  const int64_t batch = x.shape[0];
  const Sizes sizes(x.shape[1], x.shape[2]);
  require(args.workspace.bytes() >= polar_resolvent_workspace(batch, sizes.rows, sizes.cols, x.dtype),
          "polar_resolvent: workspace too small");
  dispatch(x.dtype, "polar_resolvent", [&]<class T>(T) {
    T* memory = args.workspace.as<T>();
    const int64_t matrix = sizes.rows * sizes.cols, square = sizes.small * sizes.small;
    if (args.by == Factorization::qr)
      return for_each_matrix(args, sizes, memory, [&](int64_t i, T* slot) {
        return solve_by_qr(sizes, args, x.as<const T>() + i * matrix, slot, args.y.as<T>() + i * matrix);
      });
    polar_gram(x, {memory, x.dtype, {batch, sizes.small, sizes.small}}, PolarPrecision::full);
    for_each_matrix(args, sizes, memory, [&](int64_t i, T*) {
      return solve_by_cholesky(sizes, args, x.as<const T>() + i * matrix, memory + i * square,
                               args.y.as<T>() + i * matrix);
    });
  });
}

size_t polar_resolvent_workspace(int64_t batch, int64_t rows, int64_t cols, DType dtype) {
  const Sizes sizes(rows, cols);
  const int64_t qr = std::min(batch, kMaximumSlots) * sizes.slot(),
                cholesky = batch * sizes.small * sizes.small;
  return static_cast<size_t>(std::max(qr, cholesky)) * size_of(dtype);
}

}  // namespace polar::cpu
