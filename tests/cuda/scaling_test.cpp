// Neurons, preconditioner and sign on the CUDA backend against the CPU backend.
#include "cuda/both.h"
#include "cuda/orders.h"

namespace polar::cuda::test {
namespace {

struct MatrixShape {
  int64_t batch, m, n;
};
// Tall, wide, square; more and fewer columns than a block has.
const MatrixShape kShapes[] = {{1, 1, 1}, {2, 5, 7}, {3, 40, 33}, {2, 20, 300}, {1, 300, 20}, {2, 64, 64}};

Values control(double apply) {
  return {apply, 1, 1, 0, 0, 0, 0};
}

// bf16: the neuron's factor and the restored norm round a value once each.
double tolerance(DType dtype) {
  return dtype == DType::f32 ? 1e-5 : 0x1p-7;
}

TEST(CudaScaling, NeuronsAreTheCpus) {
  Both both;
  for (const auto& [batch, m, n] : kShapes)
    for (const DType dtype : {DType::f32, DType::bf16})
      for (const double apply : {1.0, 0.0}) {
        const Pair x = both.random(dtype, {batch, m, n}, 1);
        const Pair squares = both.constant(DType::f32, {batch, std::max(m, n)}, 0.3);
        const Pair ctl = both.make(DType::f64, {kControlSize}, control(apply));
        both.cpu.normalize_neurons(x.cpu, squares.cpu, 0.9, ctl.cpu);
        both.cuda.normalize_neurons(x.cuda, squares.cuda, 0.9, ctl.cuda);
        expect_close(both.read_cuda(x), both.read_cpu(x), tolerance(dtype), "x");
        expect_close(both.read_cuda(squares), both.read_cpu(squares), 1e-5, "squares");
        if (apply == 0.0) {
          EXPECT_EQ(both.read_cuda(squares),
                    both.read_cuda(both.constant(DType::f32, squares.cpu.shape, 0.3)));
        }
      }
}

TEST(CudaScaling, AZeroMatrixStaysZero) {
  Both both;
  const Pair x = both.zeros(DType::f32, {2, 6, 4}), squares = both.zeros(DType::f32, {2, 6});
  const Pair a = both.zeros(DType::f32, {2, 4, 4}), factors = both.zeros(DType::f64, {2, 4});
  const Pair ctl = both.make(DType::f64, {kControlSize}, control(1));
  both.cuda.normalize_neurons(x.cuda, squares.cuda, 0.9, ctl.cuda);
  both.cuda.polar_precondition(x.cuda, a.cuda, factors.cuda);
  EXPECT_EQ(both.read_cuda(x), Values(48, 0.0));
  EXPECT_EQ(both.read_cuda(factors), Values(8, 0.0));
}

TEST(CudaScaling, PreconditionIsTheCpus) {
  Both both;
  for (const auto& [batch, m, n] : kShapes)
    for (const DType dtype : {DType::f32, DType::bf16}) {
      const int64_t s = std::min(m, n);
      const Pair x = both.random(dtype, {batch, m, n}, 1), a = both.random(dtype, {batch, s, s}, 2);
      const Pair factors = both.zeros(DType::f64, {batch, s});
      both.cpu.polar_precondition(x.cpu, a.cpu, factors.cpu);
      both.cuda.polar_precondition(x.cuda, a.cuda, factors.cuda);
      expect_close(both.read_cuda(factors), both.read_cpu(factors), 1e-5, "factors");
      expect_close(both.read_cuda(a), both.read_cpu(a), tolerance(dtype), "a");
      expect_close(both.read_cuda(x), both.read_cpu(x), tolerance(dtype), "x");
    }
}

TEST(CudaScaling, SignIsTheCpus) {
  Both both;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Pair x = both.make(dtype, {5}, {-2.5, 0.0, 1e-30, INFINITY, -INFINITY});
    both.cuda.sign(x.cuda);
    EXPECT_EQ(both.read_cuda(x), (Values{-1, 0, 1, 1, -1}));
  }
  const Pair nan = both.constant(DType::f32, {300}, std::nan(""));
  both.cuda.sign(nan.cuda);
  for (const double value : both.read_cuda(nan)) EXPECT_TRUE(std::isnan(value));
}

}  // namespace
}  // namespace polar::cuda::test
