// Matrices with chosen singular values, and oracles run on them.
#pragma once

#include "harness.h"
#include "optim/oracle.h"

namespace polar::testing {

// `count` orthonormal columns of length `length`, column after column, by Gram-Schmidt, twice for accuracy.
inline std::vector<std::vector<double>> orthonormal(uint64_t stream, int64_t length, int64_t count) {
  std::vector<std::vector<double>> columns;
  for (int64_t k = 0; k < count; ++k) {
    std::vector<double> v = normal(stream * 1000 + k, length);
    for (int pass = 0; pass < 2; ++pass)
      for (const auto& u : columns) {
        double inner = 0.0;
        for (size_t i = 0; i < v.size(); ++i) inner += u[i] * v[i];
        for (size_t i = 0; i < v.size(); ++i) v[i] -= inner * u[i];
      }
    const double size = norm(v);
    for (double& x : v) x /= size;
    columns.push_back(v);
  }
  return columns;
}

// left diag(values) right^T, row-major.
inline std::vector<double> compose(const std::vector<std::vector<double>>& left,
                                   const std::vector<double>& values,
                                   const std::vector<std::vector<double>>& right) {
  const size_t m = left[0].size(), n = right[0].size();
  std::vector<double> x(m * n, 0.0);
  for (size_t k = 0; k < values.size(); ++k)
    for (size_t i = 0; i < m; ++i)
      for (size_t j = 0; j < n; ++j) x[i * n + j] += left[k][i] * values[k] * right[k][j];
  return x;
}

// Runs an oracle on a batch of matrices (m, n), one after the other in `batch`, in the precision of T; the
// factors come back in double.
template <class T>
std::vector<double> run_oracle(Ops& ops, const OracleConfig& config, int64_t m, int64_t n,
                               const std::vector<double>& batch) {
  constexpr DType type = DTypeOf<T>::value;
  const auto count = static_cast<int64_t>(batch.size()) / (m * n);
  const Oracle oracle(config);
  MatrixScratch scratch;
  scratch.set_dtype(type);
  scratch.require(oracle.need(ops, count, m, n, type));
  MemoryPlan plan;
  scratch.plan(plan);
  const DeviceMemory memory(ops, plan);
  scratch.bind(ops, Arena(plan, memory.base()));
  const Shape shape{count, m, n};
  const std::vector<T> input(batch.begin(), batch.end());
  ops.upload(scratch.x.slice(0, shape), input.data());
  const Tensor u = oracle.factor(ops, scratch.x.slice(0, shape), scratch.y.slice(0, shape), scratch);
  std::vector<T> output(batch.size());
  ops.download(output.data(), u);
  ops.synchronize();
  return {output.begin(), output.end()};
}
template <class T>
std::vector<double> run_oracle(const OracleConfig& config, int64_t m, int64_t n,
                               const std::vector<double>& batch) {
  const auto ops = make_ops({.device = "cpu", .threads = 1});
  return run_oracle<T>(*ops, config, m, n, batch);
}

}  // namespace polar::testing
