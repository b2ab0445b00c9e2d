#include "lab/host_matrix.h"

#include <algorithm>
#include <numeric>

#include "tensor/memory_plan.h"

namespace polar::lab {
namespace {

Tensor batch_of_one(const HostMatrix& a) {
  return {const_cast<double*>(a.values.data()), DType::f64, {1, a.rows, a.cols}};
}

// Memory that LAPACK and the products want aligned.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : values_(bytes / sizeof(double) + 64) {}
  Tensor tensor() {
    const auto address = reinterpret_cast<uintptr_t>(values_.data());
    const uintptr_t aligned = (address + 255) / 256 * 256;
    return {reinterpret_cast<double*>(aligned), DType::f64, {static_cast<int64_t>(values_.size()) - 32}};
  }

 private:
  std::vector<double> values_;
};

}  // namespace

double HostMatrix::squares() const {
  return std::inner_product(values.begin(), values.end(), values.begin(), 0.0);
}

HostMatrix HostMatrix::transposed() const {
  HostMatrix result(cols, rows);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j)
      result.values[static_cast<size_t>(j * rows + i)] = values[static_cast<size_t>(i * cols + j)];
  return result;
}

double condition_of(const std::vector<double>& singular_values) {
  constexpr double kEps = 1e-15;
  if (singular_values.empty() || singular_values.front() <= 0.0) return 0.0;
  const double largest = singular_values.front(),
               threshold = static_cast<double>(singular_values.size()) * kEps * largest;
  double smallest = largest;
  for (const double s : singular_values)
    if (s > threshold) smallest = s;
  return largest / smallest;
}

double sum_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

HostMath::HostMath() : ops_(make_ops({.device = "cpu"})) {}

HostMatrix HostMath::product(const HostMatrix& a, Transpose ta, const HostMatrix& b, Transpose tb) const {
  HostMatrix c(ta == Transpose::yes ? a.cols : a.rows, tb == Transpose::yes ? b.rows : b.cols);
  ops_->gemm(ta, tb, 1.0, a.tensor(), b.tensor(), 0.0, c.tensor());
  return c;
}

HostMatrix HostMath::inverse_of_square(const HostMatrix& a) const {
  HostMatrix square = product(a, Transpose::yes, a, Transpose::no);
  Workspace workspace(ops_->symmetric_power_workspace(1, square.rows, DType::f64));
  ops_->symmetric_power(batch_of_one(square), -1.0, batch_of_one(square), workspace.tensor());
  return square;
}

std::vector<double> HostMath::singular_values(const HostMatrix& a) const {
  HostMatrix factor(a.rows, a.cols);
  std::vector<double> values(static_cast<size_t>(std::min(a.rows, a.cols)));
  Workspace workspace(ops_->polar_svd_workspace(1, a.rows, a.cols, DType::f64));
  ops_->polar_svd(batch_of_one(a), batch_of_one(factor), workspace.tensor(),
                  {values.data(), DType::f64, {1, static_cast<int64_t>(values.size())}});
  return values;
}

std::vector<float> flat_of(const ParameterRegistry& registry, const std::vector<HostMatrix>& matrices) {
  std::vector<float> flat(static_cast<size_t>(registry.flat_count()));
  for (size_t i = 0; i < matrices.size(); ++i)
    std::copy(matrices[i].values.begin(), matrices[i].values.end(),
              flat.begin() + registry[static_cast<int>(i)].offset);
  return flat;
}

HostMatrix matrix_of(const ParameterRegistry& registry, int index, const std::vector<float>& flat) {
  const Parameter& parameter = registry[index];
  HostMatrix matrix(parameter.shape[0], parameter.shape[1]);
  std::copy_n(flat.begin() + parameter.offset, matrix.values.size(), matrix.values.begin());
  return matrix;
}

void upload(Ops& ops, const HostMatrix& matrix, const Tensor& to) {
  const std::vector<float> values(matrix.values.begin(), matrix.values.end());
  ops.upload(to, values.data());
}

}  // namespace polar::lab
