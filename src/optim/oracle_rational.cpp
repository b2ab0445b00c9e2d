// The oracles that factor matrices instead of multiplying them only.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "optim/oracle.h"

namespace polar {
namespace {

constexpr double kLargestCholesky =
    100.0;  // c up to which the square may be formed (Nakatsukasa, Higham 2013)

double epsilon_of(DType dtype) {
  return dtype == DType::f64 ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
}

template <typename T>
double bound_of_norm(const T* x, int64_t rows, int64_t cols) {
  std::vector<double> columns(static_cast<size_t>(cols));
  double widest = 0.0;  // ||x||_inf, the largest row
  for (int64_t i = 0; i < rows; ++i) {
    double row = 0.0;
    for (int64_t j = 0; j < cols; ++j) {
      const double value = std::abs(static_cast<double>(x[i * cols + j]));
      row += value;
      columns[static_cast<size_t>(j)] += value;
    }
    widest = std::max(widest, row);
  }
  return std::sqrt(widest * *std::max_element(columns.begin(), columns.end()));
}

}  // namespace

// ||x||_2 <= sqrt(||x||_1 ||x||_inf). A zero matrix stays zero.
void Oracle::normalize_by_bound(Ops& ops, const Tensor& x) const {
  const int64_t rows = x.shape[1], cols = x.shape[2];
  std::vector<std::byte> copy(x.bytes());
  ops.download(copy.data(), x);
  for (int64_t i = 0; i < x.shape[0]; ++i) {
    const Tensor host{copy.data(), x.dtype, x.shape};
    const Tensor one = host.slice(i * rows * cols, {rows, cols});
    const double bound = x.dtype == DType::f64 ? bound_of_norm(one.as<double>(), rows, cols)
                                               : bound_of_norm(one.as<float>(), rows, cols);
    if (bound > 0.0) ops.scale(x.slice(i * rows * cols, {rows, cols}), 1.0 / bound);
  }
}

// Of a matrix that polar_normalize has brought to a Frobenius norm of 1.
double Oracle::smallest_value(DType dtype) const {
  return condition_ > 1.0 ? 1.0 / condition_ : epsilon_of(dtype);
}

std::vector<QdwhStep> Oracle::qdwh(DType dtype) const {
  return qdwh_steps(smallest_value(dtype), steps_, epsilon_of(dtype));
}

std::vector<ZoloStep> Oracle::zolo(DType dtype) const {
  const double l = smallest_value(dtype);
  return zolo_steps(l, zolo_order(1.0 / l));
}

Tensor Oracle::factor_qdwh(Ops& ops, Tensor from, Tensor to, const MatrixScratch& scratch) const {
  for (const QdwhStep& step : qdwh(from.dtype)) {
    ops.polar_resolvent({.x = from,
                         .y = to,
                         .scale = step.c,
                         .shift = 1.0,
                         .by = step.c > kLargestCholesky ? Factorization::qr : Factorization::cholesky,
                         .workspace = scratch.solver});
    ops.axpby(step.b / step.c, from, step.a - step.b / step.c, to);
    std::swap(from, to);
  }
  if (!refine_) return from;
  const int64_t s = std::min(from.shape[1], from.shape[2]);
  const Tensor gram = scratch.gram.slice(0, {from.shape[0], s, s});
  ops.polar_gram(from, gram, PolarPrecision::full);
  ops.scale(gram, -0.5);
  ops.polar_apply(from, 1.5, gram, to, PolarPrecision::full);
  return to;
}

Tensor Oracle::factor_zolo(Ops& ops, Tensor from, Tensor to, const MatrixScratch& scratch) const {
  const auto place = static_cast<int64_t>(scratch.solver.bytes() - from.bytes());
  const Tensor term{scratch.solver.as<std::byte>() + place / 256 * 256, from.dtype, from.shape};
  const Tensor workspace{scratch.solver.data, DType::f64, {place / 256 * 32}};
  auto by = Factorization::qr;
  for (const ZoloStep& step : zolo(from.dtype)) {
    ops.copy(from, to);
    for (const auto& [a, c] : step.terms) {
      ops.polar_resolvent({.x = from, .y = term, .scale = 1.0, .shift = c, .by = by, .workspace = workspace});
      ops.axpby(a, term, 1.0, to);
    }
    ops.scale(to, step.factor);
    by = Factorization::cholesky;
    std::swap(from, to);
  }
  return from;
}

Tensor Oracle::factor_gram(Ops& ops, const Tensor& x, const Tensor& y, const MatrixScratch& scratch) const {
  const int64_t s = std::min(x.shape[1], x.shape[2]);
  const Shape square{x.shape[0], s, s};
  const Tensor gram = scratch.gram.slice(0, square), root = scratch.polynomial.slice(0, square);
  ops.polar_gram(x, gram, PolarPrecision::full);
  ops.symmetric_power(gram, -0.5, root, scratch.solver);
  ops.polar_apply(x, 0.0, root, y, PolarPrecision::full);
  return y;
}

// QR of a stacked (l + s, s) matrix with its explicit Q: 4 s^2 (l + s) - 4/3 s^3, then 2 s^2 l for Q1 Q2^T.
// The CPU does as much as by Cholesky there, but in f64, which takes as long as some four times that.
// Cholesky: s^2 l for the square, s^3 for its inverse (a factor alone s^3 / 3), 2 s^2 l for the product with
// it or for two triangular solves.
double Oracle::rational_flops(double s, double l) const {
  const double qr = 4 * s * s * (l + s) - 4.0 / 3.0 * s * s * s + 2 * s * s * l;
  const double cholesky = 3 * s * s * l + s * s * s;
  double sum = 0.0;
  if (kind_ == OracleKind::qdwh)
    for (const QdwhStep& step : qdwh(DType::f32)) sum += step.c > kLargestCholesky ? qr : cholesky;
  if (refine_) sum += 3 * s * s * l;
  if (kind_ == OracleKind::zolo_pd)
    sum = static_cast<double>(zolo(DType::f32).front().terms.size()) * (qr + cholesky);
  return sum;
}

}  // namespace polar
