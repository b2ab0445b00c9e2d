#include "optim/spectrum.h"

#include <algorithm>
#include <cmath>

#include "ops/memory.h"

namespace polar {
namespace {

constexpr double kAccuracy = 1e-7;  // of singular values by way of the square, in fp64

}  // namespace

Spectrum::Spectrum(int threads) : ops_(make_ops({.device = "cpu", .threads = threads})) {}

std::vector<double> Spectrum::square(std::vector<double>& x, int64_t m, int64_t n) const {
  const int64_t s = std::min(m, n);
  std::vector<double> gram(static_cast<size_t>(s * s));
  ops_->polar_gram({x.data(), DType::f64, {1, m, n}}, {gram.data(), DType::f64, {1, s, s}});
  return gram;
}

std::vector<double> Spectrum::singular_values(std::vector<double>& x, int64_t m, int64_t n) const {
  const int64_t s = std::min(m, n);
  // Squares of very small or large elements would leave the range of the numbers.
  double largest = 0.0;
  for (const double value : x) largest = std::max(largest, std::abs(value));
  std::vector<double> values(static_cast<size_t>(s));
  if (largest == 0.0) return values;
  for (double& value : x) value /= largest;
  std::vector<double> gram = square(x, m, n), factor(gram.size());
  MemoryPlan plan;
  const auto bytes = static_cast<int64_t>(ops_->polar_svd_workspace(1, s, s, DType::f64));
  const BufferId workspace = plan.add("spectrum", "svd", DType::f64, {(bytes + 7) / 8});
  const PlannedMemory memory(plan, *ops_, MemoryKind::device);
  ops_->polar_svd({gram.data(), DType::f64, {1, s, s}}, {factor.data(), DType::f64, {1, s, s}},
                  memory[workspace], {values.data(), DType::f64, {1, s}});
  const double top = std::sqrt(values.front());
  for (double& value : values) {
    value = std::sqrt(std::max(value, 0.0));
    value = value < kAccuracy * top ? 0.0 : largest * value;
  }
  return values;
}

double Spectrum::orthogonality_error(std::vector<double>& u, int64_t m, int64_t n) const {
  const int64_t s = std::min(m, n);
  const std::vector<double> gram = square(u, m, n);
  double squares = 0.0;
  for (int64_t i = 0; i < s; ++i)
    for (int64_t j = 0; j < s; ++j) {
      const double difference = gram[static_cast<size_t>(i * s + j)] - (i == j ? 1.0 : 0.0);
      squares += difference * difference;
    }
  return std::sqrt(squares / static_cast<double>(s));
}

}  // namespace polar
