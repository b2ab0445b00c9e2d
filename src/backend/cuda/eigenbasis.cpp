// Bases of eigenvectors by cuSOLVER, one matrix at a time: divide and conquer in F64, or one step of
// orthogonal iteration in F32. The host waits: to look for NaN, and for what orders the vectors. A row-major
// matrix whose rows are the vectors is, for cuSOLVER, one whose columns they are.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "backend/cuda/contract.h"
#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/dense_solver.h"

namespace polar::cuda {
namespace {

// As for the other factorizations: counted with where there is no GPU to ask, at least reserved where there
// is one; in F64 and F32.
int64_t planned_exact(int64_t size) {
  return 3 * size * size + 64 * size + 65536;
}
int64_t planned_qr(int64_t size) {
  return 160 * size + 65536;
}

int64_t aligned(int64_t elements) {
  return (elements + 63) / 64 * 64;
}

// Both ways lay out the same workspace: what a report and a sum need first.
struct Memory {
  int* report;
  Tensor total;  // f64 (1)
  std::byte* rest;

  static constexpr size_t kHead = 512;
  explicit Memory(const Tensor& workspace)
      : report(static_cast<int*>(workspace.data)),
        total{static_cast<std::byte*>(workspace.data) + 256, DType::f64, {1}},
        rest(static_cast<std::byte*>(workspace.data) + kHead) {}
};

size_t exact_bytes(int64_t size, int64_t work) {
  return static_cast<size_t>(aligned(size * size) + aligned(size) + aligned(work)) * sizeof(double);
}
// Two squares, reflectors and cuSOLVER's space in F32; the order; the estimates in F64.
size_t iteration_bytes(int64_t size, int64_t work) {
  return static_cast<size_t>(2 * aligned(size * size) + 2 * aligned(size) + aligned(work)) * sizeof(float) +
         static_cast<size_t>(aligned(size)) * sizeof(double);
}

[[noreturn]] void fail_for_values(const Tensor& a) {
  fail(
      "eigenbasis: a matrix of {} holds NaN or infinity, or its eigenvectors did not converge; use a lower "
      "learning rate",
      a.shape.text());
}

void find_exactly(CudaOps& ops, const DenseSolver& solver, const Eigenbasis& args, int64_t work,
                  const Memory& memory) {
  const int64_t size = args.a.shape[0];
  auto* vectors = reinterpret_cast<double*>(memory.rest);
  double* values = vectors + aligned(size * size);
  const Tensor exact{vectors, DType::f64, args.a.shape};
  ops.cast(args.a, exact);
  solver.eigen(size, vectors, values, {values + aligned(size), work}, memory.report, ops.stream());
  int report = 0;
  CUDA_CHECK(
      cudaMemcpyAsync(&report, memory.report, sizeof report, cudaMemcpyDeviceToHost, ops.stream().get()));
  ops.synchronize();
  if (report != 0) fail_for_values(args.a);
  ops.cast(exact, args.out);
}

// By descending values; equal ones in the order of their places.
std::vector<int32_t> order_of(const std::vector<double>& values) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t i, int32_t j) {
    return values[static_cast<size_t>(i)] > values[static_cast<size_t>(j)];
  });
  return order;
}

void iterate(CudaOps& ops, const DenseSolver& solver, const Eigenbasis& args, int64_t work,
             const Memory& memory) {
  const int64_t size = args.a.shape[0];
  const Shape square{size, size}, rows{size, 1, size};
  const Tensor estimates{memory.rest, DType::f64, {size}};
  auto* floats = reinterpret_cast<float*>(estimates.as<double>() + aligned(size));
  const Tensor products{floats, DType::f32, square};
  const Tensor sorted{floats + aligned(size * size), DType::f32, square};
  float* tau = floats + 2 * aligned(size * size);
  const Tensor order{tau + aligned(size), DType::i32, {size}};
  ops.gemm(Transpose::no, Transpose::no, 1.0, args.basis, args.a, 0.0, products);
  ops.polar_inner(args.basis.slice(0, rows), products.slice(0, rows), estimates);
  std::vector<double> values(static_cast<size_t>(size));
  ops.download(values.data(), estimates);
  const std::vector<int32_t> places = order_of(values);
  ops.upload(order, places.data());
  ops.embedding_forward(order, products, sorted);
  solver.qr(size, size, sorted.as<float>(), tau, {tau + 2 * aligned(size), work}, memory.report,
            ops.stream());
  std::vector<int32_t> back(places.size());
  for (size_t i = 0; i < places.size(); ++i) back[static_cast<size_t>(places[i])] = static_cast<int32_t>(i);
  ops.upload(order, back.data());
  ops.embedding_forward(order, sorted, args.out);
}

}  // namespace

void CudaOps::eigenbasis(const Eigenbasis& args) {
  const Tensor& a = args.a;
  require(a.shape.rank() == 2 && a.shape[0] == a.shape[1] && a.shape == args.out.shape &&
              a.dtype == DType::f32 && args.out.dtype == DType::f32 && args.out.data != a.data &&
              args.out.data != args.basis.data,
          "eigenbasis: a and out (s, s), F32, two places");
  require(!args.basis || (args.basis.shape == a.shape && args.basis.dtype == DType::f32),
          "eigenbasis: basis (s, s), F32");
  const int64_t size = a.shape[0];
  if (size == 0) return;
  waits_ = true;
  const int64_t exact = std::max(planned_exact(size), dense_solver().eigen_work(size)),
                qr = std::max(planned_qr(size), dense_solver().qr_work(size, size));
  require(
      args.workspace.bytes() >= Memory::kHead + std::max(exact_bytes(size, exact), iteration_bytes(size, qr)),
      "eigenbasis: workspace too small");
  const Memory memory(args.workspace);
  double all = 0.0;
  sum(a, memory.total, false);  // in f64: finite if and only if a is
  download(&all, memory.total);
  if (!std::isfinite(all)) fail_for_values(a);
  if (args.basis)
    iterate(*this, dense_solver(), args, qr, memory);
  else
    find_exactly(*this, dense_solver(), args, exact, memory);
}

size_t CudaOps::eigenbasis_workspace(int64_t size, DType /*dtype*/) const {
  if (size == 0) return 0;
  const bool here = device_ >= 0;
  const int64_t exact = std::max(planned_exact(size), here ? dense_solver().eigen_work(size) : 0),
                qr = std::max(planned_qr(size), here ? dense_solver().qr_work(size, size) : 0);
  return Memory::kHead + std::max(exact_bytes(size, exact), iteration_bytes(size, qr));
}

}  // namespace polar::cuda
