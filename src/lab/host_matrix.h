// Matrices in fp64 on the host, for what the lab measures.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ops/ops.h"
#include "tensor/registry.h"

namespace polar::lab {

struct HostMatrix {
  int64_t rows = 0, cols = 0;
  std::vector<double> values;  // row-major

  HostMatrix(int64_t rows_, int64_t cols_)
      : rows(rows_), cols(cols_), values(static_cast<size_t>(rows_ * cols_)) {}
  Tensor tensor() { return {values.data(), DType::f64, {rows, cols}}; }
  Tensor tensor() const { return {const_cast<double*>(values.data()), DType::f64, {rows, cols}}; }
  double squares() const;  // of the Frobenius norm
  HostMatrix transposed() const;
};

// Its operations, by the CPU backend in fp64.
class HostMath {
 public:
  HostMath();
  HostMatrix product(const HostMatrix& a, Transpose ta, const HostMatrix& b, Transpose tb) const;
  // (a^T a)^{-1} for a with full column rank.
  HostMatrix inverse_of_square(const HostMatrix& a) const;
  // All of them, descending.
  std::vector<double> singular_values(const HostMatrix& a) const;

 private:
  std::unique_ptr<Ops> ops_;
};

// Of singular values, descending: the largest over the smallest that is not rounding; 0 without any.
double condition_of(const std::vector<double>& singular_values);
double sum_of(const std::vector<double>& values);

// The matrices as the parameters of a registry, in its order, in a flat buffer in fp32; and one back.
std::vector<float> flat_of(const ParameterRegistry& registry, const std::vector<HostMatrix>& matrices);
HostMatrix matrix_of(const ParameterRegistry& registry, int index, const std::vector<float>& flat);

// As f32, into device memory.
void upload(Ops& ops, const HostMatrix& matrix, const Tensor& to);

// Calls `change(float*)` with the elements of an f32 tensor in host memory, for what no operation of `ops`
// does; waits for the device and, where that has a memory of its own, copies there and back.
template <class Change>
void on_host(Ops& ops, const Tensor& tensor, Change change) {
  if (ops.host_memory()) {
    ops.synchronize();
    change(tensor.as<float>());
    return;
  }
  std::vector<float> copy(static_cast<size_t>(tensor.count()));
  ops.download(copy.data(), tensor);
  change(copy.data());
  ops.upload(tensor, copy.data());
}

}  // namespace polar::lab
