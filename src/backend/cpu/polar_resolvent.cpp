// x (shift I + scale x^T x)^{-1}, the step of the rational polar iterations: the matrix Z in the brackets is
// formed and inverted, and x multiplied with the inverse, so that the work is in matrix products.
//
// With K = 1 + scale ||x||^2 / shift, the condition of Z, the largest y is 1 / (2 sqrt(scale shift)). An
// error E of Z or of its factor, some units of roundoff u of ||Z||, takes y E Z^{-1} from y: K u times that
// largest y. The roundings of Z^{-1} = X^T X, |X^T| |X| |L| |X| u (definite_inverse.h), and of x Z^{-1} are
// of the order of ||x|| u sqrt(K) / shift, which is no more. QDWH multiplies y with some 2 sqrt(scale), shift
// being 1: of its step's result, of norm 1, this is K u. Householder's QR of [sqrt(scale) x; sqrt(shift) I]
// gives the y of an x that is off by a few u ||x||, whatever K; therefore the Cholesky form is taken up to K
// = 100 only (Nakatsukasa, Higham: "Stable and efficient spectral divide and conquer algorithms", 2013,
// section 5).
//
// f32 that asks for the QR form has Z in f64 instead. Up to K = 2^32 its K u is at most 8 units of f32, a
// smaller error than that of the QR in f32 in y itself (by sqrt(K), where x is near to a matrix of less
// rank), and it takes half the FLOPs, all of them in products. Larger K, and f64, go to LAPACK's QR.
//
// Of an inverse that is known so well, rounding it to f32 and the product of that with x cost ||x|| u / shift
// each, 4 sqrt(K) u of the largest y together. While that is no more than the 100 u which the Cholesky form
// is granted, for K to 625, that product is one of f32: QDWH's second step from l = eps has 577.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "backend/cpu/definite_inverse.h"
#include "backend/cpu/dispatch.h"
#include "backend/cpu/functions.h"
#include "backend/cpu/gemm_product.h"
#include "backend/cpu/lapack.h"
#include "backend/cpu/parallel.h"

namespace polar::cpu {
namespace {

constexpr int64_t kMaximumSlots = 16;         // matrices at work at the same time
constexpr blasint kBlock = 64;                // rows that LAPACK's blocked algorithms take together, at most
constexpr double kLargestCondition = 0x1p32;  // of Z in f64 for a result in f32
constexpr double kLargestRounded = 625.0;     // scale / shift for a product with the inverse in f32
constexpr int64_t kDoubles = int64_t{256} << 20;  // bytes for matrices in f64 that are worked on together,
constexpr int64_t kLeastGroup = 4;                // but at least so many

struct Sizes {
  int64_t rows, cols, small, large;
  Sizes(int64_t m, int64_t n) : rows(m), cols(n), small(std::min(m, n)), large(std::max(m, n)) {}
  int64_t stacked() const { return (large + small) * small; }
  int64_t work() const { return kBlock * (large + small); }
  // Elements of a slot of LAPACK's QR: the stacked matrix, the reflectors' factors, LAPACK's space.
  int64_t slot() const { return aligned(stacked()) + aligned(small) + aligned(work()); }
  // Of a matrix in f64: x, y and Z.
  int64_t doubles() const { return small * (2 * large + small); }
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

// z = (shift I + scale z)^{-1} for z = x^T x or x x^T. scratch: as large as z.
template <class T>
bool invert_shifted(int64_t size, const PolarResolvent& args, T* z, T* scratch) {
  const auto scale = static_cast<T>(args.scale), shift = static_cast<T>(args.shift);
  for (int64_t i = 0; i < size * size; ++i) z[i] *= scale;
  for (int64_t i = 0; i < size; ++i) z[i * (size + 1)] += shift;
  return invert_definite(size, z, scratch);
}

// Runs solve(i, slot) for matrices 0 ... count - 1 and slots 0 ... kMaximumSlots - 1 until one is false.
template <class Solve>
void for_each_matrix(const PolarResolvent& args, int64_t count, const Solve& solve) {
  const int64_t slots = std::min(count, kMaximumSlots);
  bool failed[kMaximumSlots] = {};
  parallel_for(slots, [&](int64_t s) {
    for (int64_t i = s; i < count && !failed[s]; i += slots) failed[s] = !solve(i, s);
  });
  if (std::any_of(failed, failed + slots, [](bool f) { return f; })) fail_for(args.x);
}

void check_values(const PolarResolvent& args, const Sizes& sizes) {
  dispatch(args.x.dtype, "polar_resolvent", [&]<class T>(T) {
    const int64_t matrix = sizes.rows * sizes.cols;
    for_each_matrix(args, args.x.shape[0], [&](int64_t i, int64_t) {
      return all_finite(args.x.as<const T>() + i * matrix, matrix);
    });
  });
}

// Z and its inverse in the format of x. y is the inversion's scratch before it is the result.
template <class T>
void solve_all_by_cholesky(const PolarResolvent& args, const Sizes& sizes) {
  const int64_t batch = args.x.shape[0], square = sizes.small * sizes.small;
  const Tensor z{args.workspace.data, args.x.dtype, {batch, sizes.small, sizes.small}};
  polar_gram(args.x, z, PolarPrecision::full);
  for_each_matrix(args, batch, [&](int64_t i, int64_t) {
    return invert_shifted(sizes.small, args, z.as<T>() + i * square,
                          args.y.as<T>() + i * sizes.rows * sizes.cols);
  });
  polar_apply(args.x, 0.0, z, args.y, PolarPrecision::full);
}

// LAPACK's QR of some matrices of the batch.
template <class T>
void solve_by_qr(const PolarResolvent& args, const Sizes& sizes, const std::vector<int64_t>& matrices) {
  const int64_t matrix = sizes.rows * sizes.cols;
  for_each_matrix(args, std::ssize(matrices), [&](int64_t i, int64_t s) {
    const int64_t at = matrices[static_cast<size_t>(i)] * matrix;
    return solve_by_qr(sizes, args, args.x.as<const T>() + at, args.workspace.as<T>() + s * sizes.slot(),
                       args.y.as<T>() + at);
  });
}

// Matrices that solve_all_in_double has in f64 at the same time, and its elements for each.
int64_t group_of_doubles(int64_t batch, const Sizes& sizes) {
  const int64_t bytes = sizes.doubles() * static_cast<int64_t>(sizeof(double));
  return std::min(batch, std::clamp(kDoubles / std::max<int64_t>(bytes, 1), kLeastGroup, kMaximumSlots));
}

// At least the norm of a positive semidefinite matrix: the sum of its eigenvalues. QDWH's start with 1.
double trace(int64_t size, const double* x) {
  double sum = 0.0;
  for (int64_t i = 0; i < size; ++i) sum += x[i * (size + 1)];
  return sum;
}

// `count` matrices of f32 from `first` on, with Z and its inverse in f64. What is too ill-conditioned for
// that is left for LAPACK.
void solve_in_double(const PolarResolvent& args, const Sizes& sizes, int64_t first, int64_t count) {
  const int64_t matrix = sizes.rows * sizes.cols, square = sizes.small * sizes.small;
  const Shape shape{count, sizes.rows, sizes.cols};
  double* const memory = args.workspace.as<double>();
  const Tensor x{memory, DType::f64, shape}, y{memory + count * matrix, DType::f64, shape},
      z{memory + 2 * count * matrix, DType::f64, {count, sizes.small, sizes.small}};
  const Tensor from = args.x.slice(first * matrix, shape), to = args.y.slice(first * matrix, shape);
  cast(from, x);
  polar_gram(x, z, PolarPrecision::full);
  bool too_ill[kMaximumSlots] = {};
  for_each_matrix(args, count, [&](int64_t i, int64_t) {
    double* const one = z.as<double>() + i * square;
    too_ill[i] = 1.0 + args.scale / args.shift * trace(sizes.small, one) > kLargestCondition;
    if (!too_ill[i]) return invert_shifted(sizes.small, args, one, y.as<double>() + i * matrix);
    std::fill_n(one, square, 0.0);
    return true;
  });
  if (args.scale / args.shift <= kLargestRounded) {
    const Tensor inverse{y.data, DType::f32, z.shape};
    cast(z, inverse);
    polar_apply(from, 0.0, inverse, to, PolarPrecision::full);
  } else {
    polar_apply(x, 0.0, z, y, PolarPrecision::full);
    cast(y, to);
  }
  std::vector<int64_t> rest;
  for (int64_t i = 0; i < count; ++i)
    if (too_ill[i]) rest.push_back(first + i);
  if (!rest.empty()) solve_by_qr<float>(args, sizes, rest);
}

void solve_all_by_qr(const PolarResolvent& args, const Sizes& sizes) {
  const int64_t batch = args.x.shape[0], group = group_of_doubles(batch, sizes);
  if (args.x.dtype == DType::f64) {
    std::vector<int64_t> all(static_cast<size_t>(batch));
    std::iota(all.begin(), all.end(), int64_t{0});
    return solve_by_qr<double>(args, sizes, all);
  }
  for (int64_t first = 0; first < batch; first += group)
    solve_in_double(args, sizes, first, std::min(group, batch - first));
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
  check_values(args, sizes);
  if (args.by == Factorization::qr) return solve_all_by_qr(args, sizes);
  dispatch(x.dtype, "polar_resolvent", [&]<class T>(T) { solve_all_by_cholesky<T>(args, sizes); });
}

size_t polar_resolvent_workspace(int64_t batch, int64_t rows, int64_t cols, DType dtype) {
  const Sizes sizes(rows, cols);
  const int64_t qr = std::min(batch, kMaximumSlots) * sizes.slot(),
                cholesky = batch * sizes.small * sizes.small,
                doubles = dtype == DType::f32 ? group_of_doubles(batch, sizes) * sizes.doubles() : 0;
  return std::max(static_cast<size_t>(std::max(qr, cholesky)) * size_of(dtype),
                  static_cast<size_t>(doubles) * sizeof(double));
}

}  // namespace polar::cpu
