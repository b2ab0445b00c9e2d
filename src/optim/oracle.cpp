#include "optim/oracle.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace polar {
namespace {

constexpr double kNormEps = 1e-7;  // added to the norm: a zero matrix stays zero

// Steps of the Gram form before X is formed for the first time, and from then on.
constexpr size_t kFirstRestart = 2, kRestart = 3;

std::vector<Quintic> newton_schulz(const OracleConfig& config) {
  std::vector<Quintic> list = config.custom;
  if (list.empty()) list = named_quintics(config.coefficients);
  list.resize(static_cast<size_t>(config.steps), list.back());
  return list;
}

// Long enough for the Gram form to pay.
bool is_long(int64_t m, int64_t n) {
  return 2 * std::max(m, n) >= 5 * std::min(m, n);
}

// The authors' use of their list: every polynomial is stretched but those that have converged to the
// classical quintic.
std::vector<Quintic> polar_express(const OracleConfig& config) {
  if (!(config.lower_bound > 0.0 && config.lower_bound < 1.0))
    fail_usage("oracle.lower_bound: found {}, expected a number between 0 and 1", config.lower_bound);
  const double classical = named_quintics("classical_quintic").front()[0];
  std::vector<Quintic> list = polar_express_quintics(
      {.lower_bound = config.lower_bound, .steps = config.steps, .cushion = config.cushion});
  for (Quintic& p : list)
    if (std::abs(p[0] - classical) > 1e-7) p = stretched(p, config.safety);
  return list;
}

size_t aligned(size_t bytes) {
  return (bytes + MemoryPlan::kAlignment - 1) / MemoryPlan::kAlignment * MemoryPlan::kAlignment;
}

Shape square_of(const Tensor& x) {
  const int64_t s = std::min(x.shape[1], x.shape[2]);
  return {x.shape[0], s, s};
}

}  // namespace

bool takes_reduced_products(const OracleConfig& config) {
  return (config.kind == OracleKind::newton_schulz || config.kind == OracleKind::polar_express) &&
         config.products == "reduced";
}

bool takes_vectors(OracleKind kind) {
  return kind == OracleKind::sign || kind == OracleKind::identity;
}

Oracle::Oracle(const OracleConfig& config)
    : kind_(config.kind),
      steps_(config.steps),
      condition_(config.condition),
      precondition_(config.preconditioning == "aol"),
      refine_(config.refine),
      norm_bound_(config.norm_bound),
      precision_(takes_reduced_products(config) ? PolarPrecision::reduced : PolarPrecision::full) {
  if (config.products != "auto" && config.products != "full" && config.products != "reduced")
    fail_usage("oracle.products: found {}, expected auto, full or reduced", config.products);
  const bool polynomial = kind_ == OracleKind::newton_schulz || kind_ == OracleKind::polar_express;
  if (config.steps < (polynomial ? 1 : 0))
    fail_usage("oracle.steps: found {}, expected 1 or more", config.steps);
  if ((refine_ || norm_bound_) && kind_ != OracleKind::qdwh)
    fail_usage("oracle.{}: found true, expected it with qdwh only", refine_ ? "refine" : "norm_bound");
  if (condition_ != 0.0 && !(condition_ > 1.0))
    fail_usage("oracle.condition: found {}, expected a number above 1, or 0", condition_);
  if (config.preconditioning != "none" && (config.preconditioning != "aol" || !polynomial))
    fail_usage("oracle.preconditioning: found {}, expected none, or aol with a polynomial oracle",
               config.preconditioning);
  const char* aol = precondition_ ? " aol" : "";
  switch (kind_) {
    case OracleKind::polar_express:
      quintics_ = polar_express(config);
      safety_ = config.safety;
      text_ = fmt::format("polar_express {}{}", steps_, aol);
      return;
    case OracleKind::newton_schulz:
      quintics_ = newton_schulz(config);
      text_ = fmt::format("newton_schulz {} {}{}", config.custom.empty() ? config.coefficients : "custom",
                          steps_, aol);
      return;
    case OracleKind::qdwh:
      text_ = steps_ == 0 ? "qdwh" : fmt::format("qdwh {}", steps_);
      if (refine_) text_ += " refined";
      return;
    case OracleKind::zolo_pd:
      text_ = "zolo_pd";
      return;
    case OracleKind::gram_eigh:
      text_ = "gram_eigh";
      return;
    case OracleKind::svd:
      text_ = "svd";
      return;
    case OracleKind::sign:
      text_ = "sign";
      return;
    case OracleKind::identity:
      text_ = "identity";
  }
}

MatrixScratch::Need Oracle::need(const Ops& ops, int64_t batch, int64_t m, int64_t n, DType dtype) const {
  MatrixScratch::Need need{.batch = batch, .matrices = batch * m * n};
  const int64_t s = std::min(m, n);
  const size_t matrices = static_cast<size_t>(need.matrices) * size_of(dtype);
  switch (kind_) {
    case OracleKind::svd:
      need.solver = ops.polar_svd_workspace(batch, m, n, dtype);
      break;
    case OracleKind::gram_eigh:
      need.squares = batch * s * s;
      need.solver = ops.symmetric_power_workspace(batch, s, dtype);
      break;
    case OracleKind::qdwh:
      if (refine_) need.squares = batch * s * s;
      need.solver = ops.polar_resolvent_workspace(batch, m, n, dtype);
      break;
    case OracleKind::zolo_pd:  // terms are summed: one more batch
      need.solver = aligned(ops.polar_resolvent_workspace(batch, m, n, dtype)) + matrices;
      break;
    case OracleKind::sign:
    case OracleKind::identity:
      break;
    default:
      need.squares = batch * s * s;
      if (precondition_) need.factors = batch * s;
      if (is_long(m, n)) need.products = need.squares;
  }
  return need;
}

Tensor Oracle::factor(Ops& ops, const Tensor& x, const Tensor& y, const MatrixScratch& scratch) const {
  if (kind_ == OracleKind::svd) {
    ops.polar_svd(x, y, scratch.solver);
    return y;
  }
  if (kind_ == OracleKind::identity) return x;
  if (kind_ == OracleKind::sign) {
    ops.sign(x);
    return x;
  }
  if (norm_bound_)
    normalize_by_bound(ops, x);
  else
    ops.polar_normalize(x, safety_, is_polynomial() ? kNormEps : 0.0);
  if (kind_ == OracleKind::qdwh) return factor_qdwh(ops, x, y, scratch);
  if (kind_ == OracleKind::zolo_pd) return factor_zolo(ops, x, y, scratch);
  if (kind_ == OracleKind::gram_eigh) return factor_gram(ops, x, y, scratch);
  return is_long(x.shape[1], x.shape[2]) ? factor_long(ops, x, y, scratch) : factor_short(ops, x, y, scratch);
}

void Oracle::form_gram(Ops& ops, const Tensor& from, const Tensor& gram, const MatrixScratch& scratch,
                       bool first) const {
  ops.polar_gram(from, gram, precision_);
  if (precondition_ && first)
    ops.polar_precondition(from, gram, scratch.factors.slice(0, {from.shape[0] * gram.shape[1]}));
}

Tensor Oracle::factor_short(Ops& ops, Tensor from, Tensor to, const MatrixScratch& scratch) const {
  const Shape square = square_of(from);
  const Tensor gram = scratch.gram.slice(0, square), polynomial = scratch.polynomial.slice(0, square);
  bool first = true;
  for (const auto& [a, b, c] : quintics_) {
    form_gram(ops, from, gram, scratch, std::exchange(first, false));
    ops.polar_polynomial(gram, b, c, polynomial, precision_);
    ops.polar_apply(from, a, polynomial, to, precision_);
    std::swap(from, to);
  }
  return from;
}

Tensor Oracle::factor_long(Ops& ops, Tensor from, Tensor to, const MatrixScratch& scratch) const {
  const Shape square = square_of(from);
  const Tensor gram = scratch.gram.slice(0, square), polynomial = scratch.polynomial.slice(0, square);
  // The product of the P_k since the last start is shift * I + product.
  Tensor product = scratch.product.slice(0, square), next = scratch.product_next.slice(0, square);
  for (size_t step = 0, end = 0; step < quintics_.size();) {
    end = std::min(quintics_.size(), end == 0 ? kFirstRestart : end + kRestart);
    form_gram(ops, from, gram, scratch, step == 0);
    double shift = 1.0;
    for (const size_t start = step; step < end; ++step) {
      const auto& [a, b, c] = quintics_[step];
      const Tensor p = step == start ? product : polynomial;  // b A + c A^2
      ops.polar_polynomial(gram, b, c, p, precision_);
      if (step + 1 < end) {
        ops.polar_apply(gram, a, p, next, precision_);
        ops.polar_apply(next, a, p, gram, precision_);
      }
      if (step > start) {
        ops.polar_apply(product, a, p, next, precision_);
        ops.axpby(shift, p, 1.0, next);
        std::swap(product, next);
      }
      shift *= a;
    }
    ops.polar_apply(from, shift, product, to, precision_);
    std::swap(from, to);
  }
  return from;
}

double Oracle::flops(int64_t m, int64_t n) const {
  const auto s = static_cast<double>(std::min(m, n)), l = static_cast<double>(std::max(m, n));
  const double gram = s * s * l, apply = 2 * s * s * l, polynomial = s * s * s, square = 2 * s * s * s;
  const auto steps = static_cast<double>(quintics_.size());
  if (takes_vectors(kind_)) return 0.0;
  if (!is_polynomial()) return rational_flops(s, l);
  if (!is_long(m, n)) return steps * (gram + polynomial + apply);
  double sum = 0.0;
  for (size_t step = 0, end = 0; step < quintics_.size();) {  // as factor_long goes
    end = std::min(quintics_.size(), end == 0 ? kFirstRestart : end + kRestart);
    sum += gram + apply;
    for (const size_t start = step; step < end; ++step)
      sum += polynomial + (step + 1 < end ? 2 * square : 0.0) + (step > start ? square : 0.0);
  }
  return sum;
}

}  // namespace polar
