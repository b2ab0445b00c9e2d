// RMSNorm against the CPU: ragged widths, rows longer than the registers hold, residuals, strided views.
#include "cuda/orders.h"

namespace polar::cuda::test {
namespace {

constexpr double kEps = 1e-5;
// The last two are longer than what lanes keep in registers: 1024 f32, 2048 bf16.
const int64_t kCols[] = {1, 5, 64, 200, 1100, 2120};

TEST(CudaRmsNorm, Forward) {
  Both both;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t rows : {1, 7, 33})
      for (const int64_t cols : kCols)
        for (const int64_t shift : {0, 3, 8}) {  // 3: not aligned
          const Pair x = both.random(dtype, {rows, cols}, 1), weight = both.random(dtype, {cols}, 2);
          const Pair output = both.zeros(dtype, {rows, cols + shift}), rstd = both.zeros(DType::f32, {rows});
          const MatrixPair y = matrix(output).columns(shift, cols);
          both.cpu.rms_norm_forward({.input = x.cpu,
                                     .residual = {},
                                     .sum = {},
                                     .weight = weight.cpu,
                                     .eps = kEps,
                                     .output = y.cpu,
                                     .rstd = rstd.cpu});
          both.cuda.rms_norm_forward({.input = x.cuda,
                                      .residual = {},
                                      .sum = {},
                                      .weight = weight.cuda,
                                      .eps = kEps,
                                      .output = y.cuda,
                                      .rstd = rstd.cuda});
          const std::string what = std::to_string(rows) + " x " + std::to_string(cols);
          expect_result(dtype, both.read_cuda(output), both.read_cpu(output), "output " + what);
          expect_close(both.read_cuda(rstd), both.read_cpu(rstd), 1e-5, "rstd " + what);
        }
}

// In BF16 the norm is that of the rounded sum: a relative error of up to one unit in the sum, which rstd may
// double (it moves against or with it), and the rounding of the output.
TEST(CudaRmsNorm, ForwardWithResidualInEveryPlace) {
  enum class Place { own, input, residual };
  Both both;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const Place place : {Place::own, Place::input, Place::residual})
      for (const int64_t cols : kCols) {
        const int64_t rows = 9;
        const Pair x = both.random(dtype, {rows, cols}, 1), r = both.random(dtype, {rows, cols}, 2);
        const Pair weight = both.random(dtype, {cols}, 3), rstd = both.zeros(DType::f32, {rows});
        const Pair own = both.zeros(dtype, {rows, cols}), output = both.zeros(dtype, {rows, cols});
        const Pair& sum = place == Place::own ? own : place == Place::input ? x : r;
        both.cpu.rms_norm_forward({.input = x.cpu,
                                   .residual = r.cpu,
                                   .sum = sum.cpu,
                                   .weight = weight.cpu,
                                   .eps = kEps,
                                   .output = output.cpu,
                                   .rstd = rstd.cpu});
        both.cuda.rms_norm_forward({.input = x.cuda,
                                    .residual = r.cuda,
                                    .sum = sum.cuda,
                                    .weight = weight.cuda,
                                    .eps = kEps,
                                    .output = output.cuda,
                                    .rstd = rstd.cuda});
        expect_result(dtype, both.read_cuda(sum), both.read_cpu(sum), "sum");
        expect_result(dtype, both.read_cuda(output), both.read_cpu(output), "output",
                      3.0 * (1.0 + kBf16Unit));
        expect_close(both.read_cuda(rstd), both.read_cpu(rstd),
                     dtype == DType::bf16 ? kBf16Unit + 1e-5 : 1e-5, "rstd");
      }
}

// The backward pass and recomputation read the rounded sum: the norm has to be that sum's, bit for bit.
TEST(CudaRmsNorm, WithResidualIsTheNormOfTheRoundedSum) {
  Both both;
  for (const int64_t cols : {200, 2120}) {
    const int64_t rows = 5;
    const Pair x = both.random(DType::bf16, {rows, cols}, 1), r = both.random(DType::bf16, {rows, cols}, 2);
    const Pair sum = both.zeros(DType::bf16, {rows, cols}), weight = both.random(DType::bf16, {cols}, 3);
    const Pair fused = both.zeros(DType::bf16, {rows, cols}), rstd = both.zeros(DType::f32, {rows});
    const Pair plain = both.zeros(DType::bf16, {rows, cols}), plain_rstd = both.zeros(DType::f32, {rows});
    both.cuda.rms_norm_forward({.input = x.cuda,
                                .residual = r.cuda,
                                .sum = sum.cuda,
                                .weight = weight.cuda,
                                .eps = kEps,
                                .output = fused.cuda,
                                .rstd = rstd.cuda});
    both.cuda.rms_norm_forward({.input = sum.cuda,
                                .residual = {},
                                .sum = {},
                                .weight = weight.cuda,
                                .eps = kEps,
                                .output = plain.cuda,
                                .rstd = plain_rstd.cuda});
    EXPECT_EQ(both.read_cuda(fused), both.read_cuda(plain));
    EXPECT_EQ(both.read_cuda(rstd), both.read_cuda(plain_rstd));
  }
}

struct BackwardCase {
  Pair x, weight, dy, dx, dweight, rstd, workspace;
  BackwardCase(Both& both, DType dtype, int64_t rows, int64_t cols, int64_t pad)
      : x(both.random(dtype, {rows, cols + pad}, 1)),
        weight(both.random(dtype, {cols}, 2)),
        dy(both.random(dtype, {rows, cols + pad}, 3)),
        dx(both.random(dtype, {rows, cols + pad}, 4)),
        dweight(both.random(DType::f32, {cols}, 5)),
        rstd(both.random(DType::f32, {rows}, 6)),
        workspace(both.workspace(both.cpu.rms_norm_backward_workspace(rows, cols, DType::f32),
                                 both.cuda.rms_norm_backward_workspace(rows, cols, dtype))) {}
  template <class Side>
  void run(Ops& ops, int64_t cols, int64_t pad, Side side) const {
    const auto view = [&](const Pair& pair) { return MatrixView(side(pair)).columns(pad, cols); };
    ops.rms_norm_backward({.doutput = view(dy),
                           .input = view(x),
                           .weight = side(weight),
                           .rstd = side(rstd),
                           .dinput = view(dx),
                           .dweight = side(dweight),
                           .workspace = side(workspace)});
  }
};
const Tensor& cuda_side(const Pair& pair) {
  return pair.cuda;
}

TEST(CudaRmsNorm, BackwardAccumulates) {
  Both both;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t rows : {1, 7, 130})
      for (const int64_t cols : kCols)
        for (const int64_t pad : {0, 3, 8}) {
          const BackwardCase c(both, dtype, rows, cols, pad);
          c.run(both.cpu, cols, pad, [](const Pair& pair) { return pair.cpu; });
          c.run(both.cuda, cols, pad, cuda_side);
          const std::string what = std::to_string(rows) + " x " + std::to_string(cols);
          expect_result(dtype, both.read_cuda(c.dx), both.read_cpu(c.dx), "dinput " + what);
          expect_close(both.read_cuda(c.dweight), both.read_cpu(c.dweight), 1e-5, "dweight " + what);
        }
}

TEST(CudaRmsNorm, BackwardIsTheSameInEveryOrder) {
  Both both;
  for (const int64_t cols : {200, 2120})
    expect_same_bits_in_every_order("gradients", [&] {
      const BackwardCase c(both, DType::bf16, 150, cols, 0);
      c.run(both.cuda, cols, 0, cuda_side);
      Values all = both.read_cuda(c.dx);
      const Values dweight = both.read_cuda(c.dweight);
      all.insert(all.end(), dweight.begin(), dweight.end());
      return all;
    });
}

// Rows more than the blocks' number times the smallest block's rows: blocks do several rounds.
TEST(CudaRmsNorm, BackwardOfManyRows) {
  Both both;
  const BackwardCase c(both, DType::bf16, 9000, 8, 0);
  c.run(both.cpu, 8, 0, [](const Pair& pair) { return pair.cpu; });
  c.run(both.cuda, 8, 0, cuda_side);
  expect_close(both.read_cuda(c.dweight), both.read_cpu(c.dweight), 1e-5, "dweight");
  expect_result(DType::bf16, both.read_cuda(c.dx), both.read_cpu(c.dx), "dinput");
}

TEST(CudaRmsNorm, ViolatedContractsAreErrors) {
  Both both;
  const Pair x = both.zeros(DType::bf16, {3, 4}), weight = both.zeros(DType::bf16, {4});
  const Pair rstd = both.zeros(DType::bf16, {3});  // has to be F32
  EXPECT_THROW(both.cuda.rms_norm_forward({.input = x.cuda,
                                           .residual = {},
                                           .sum = {},
                                           .weight = weight.cuda,
                                           .eps = kEps,
                                           .output = x.cuda,
                                           .rstd = rstd.cuda}),
               std::runtime_error);
}

}  // namespace
}  // namespace polar::cuda::test
