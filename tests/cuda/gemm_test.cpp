// Matrix products against the CPU, and how plans are chosen and kept.
#include <gmock/gmock.h>

#include "backend/cuda/gemm_plans.h"
#include "base/error.h"
#include "base/file.h"
#include "cuda/orders.h"
#include "temporary.h"

namespace polar::cuda::test {
namespace {

struct Types {
  DType inputs, output;
};
const Types kTypes[] = {{DType::f32, DType::f32}, {DType::bf16, DType::bf16}, {DType::bf16, DType::f32}};

TEST(CudaGemm, EveryLayoutAndType) {
  Both both;
  for (const Types types : kTypes)
    for (const Transpose ta : {Transpose::no, Transpose::yes})
      for (const Transpose tb : {Transpose::no, Transpose::yes})
        for (const int64_t pad : {0, 3, 8})
          for (const double beta : {0.0, 1.0, -0.5}) {
            const int64_t m = 33, n = 20, k = 47;
            const auto operand = [&](bool transposed, int64_t rows, int64_t cols, uint64_t stream) {
              if (transposed) std::swap(rows, cols);
              return matrix(both.random(types.inputs, {rows, cols + pad}, stream)).columns(pad, cols);
            };
            const MatrixPair a = operand(ta == Transpose::yes, m, k, 1);
            const MatrixPair b = operand(tb == Transpose::yes, k, n, 2);
            const Pair whole = both.random(types.output, {m, n + pad}, 3);
            const MatrixPair c = matrix(whole).columns(pad, n);
            both.cpu.gemm(ta, tb, 0.7, a.cpu, b.cpu, beta, c.cpu);
            both.cuda.gemm(ta, tb, 0.7, a.cuda, b.cuda, beta, c.cuda);
            expect_result(types.output, both.read_cuda(whole), both.read_cpu(whole), "c");
          }
}

TEST(CudaGemm, WithBetaZeroTheOutputIsNotRead) {
  Both both;
  const Pair a = both.random(DType::f32, {5, 6}, 1), b = both.random(DType::f32, {6, 7}, 2);
  const Pair c = both.constant(DType::f32, {5, 7}, std::nan(""));
  both.cpu.gemm(Transpose::no, Transpose::no, 1.0, a.cpu, b.cpu, 0.0, c.cpu);
  both.cuda.gemm(Transpose::no, Transpose::no, 1.0, a.cuda, b.cuda, 0.0, c.cuda);
  expect_close(both.read_cuda(c), both.read_cpu(c), 1e-5, "c");
}

// In the epilogue: c is rounded once, after the bias. The second product has the first one's plan and another
// bias.
TEST(CudaGemm, WithABias) {
  Both both;
  for (const Types types : kTypes)
    for (const double beta : {0.0, 1.0})
      for (const uint64_t stream : {3, 4}) {
        const Pair a = both.random(types.inputs, {33, 47}, 1), b = both.random(types.inputs, {20, 47}, 2);
        const Pair bias = both.random(types.output, {20}, stream), c = both.random(types.output, {33, 20}, 5);
        both.cpu.gemm_bias(Transpose::no, Transpose::yes, 0.7, a.cpu, b.cpu, beta, c.cpu, bias.cpu);
        both.cuda.gemm_bias(Transpose::no, Transpose::yes, 0.7, a.cuda, b.cuda, beta, c.cuda, bias.cuda);
        expect_result(types.output, both.read_cuda(c), both.read_cpu(c), "c");
      }
  const Pair c = both.constant(DType::f32, {2, 3}, 7.0), bias = both.make(DType::f32, {3}, {1, 2, 3});
  const MatrixView a(c.cuda.data, DType::f32, 2, 0, 1), b(c.cuda.data, DType::f32, 0, 3, 3);
  both.cuda.gemm_bias(Transpose::no, Transpose::no, 1.0, a, b, 0.0, c.cuda, bias.cuda);  // no terms
  EXPECT_EQ(both.read_cuda(c), (Values{1, 2, 3, 1, 2, 3}));
  EXPECT_THROW(both.cuda.gemm_bias(Transpose::no, Transpose::no, 1.0, a, b, 0.0, c.cuda, c.cuda), Error);
}

TEST(CudaGemm, EmptyProducts) {
  Both both;
  const Pair c = both.constant(DType::f32, {5, 9}, 2.0);
  const MatrixView inner = MatrixView(c.cuda).columns(1, 7);
  const MatrixView a(c.cuda.data, DType::f32, 5, 0, 1), b(c.cuda.data, DType::f32, 0, 7, 7);
  both.cuda.gemm(Transpose::no, Transpose::no, 1.0, a, b, 1.0, inner);
  EXPECT_EQ(both.read_cuda(c), Values(45, 2.0));
  both.cuda.gemm(Transpose::no, Transpose::no, 1.0, a, b, 0.0, inner);
  Values want(45, 0.0);
  for (size_t row = 0; row < 5; ++row) want[9 * row] = want[9 * row + 8] = 2.0;
  EXPECT_EQ(both.read_cuda(c), want);
}

TEST(CudaGemm, ViolatedContractsAreErrors) {
  Both both;
  const Pair f = both.zeros(DType::f32, {4, 4}), h = both.zeros(DType::bf16, {4, 4}),
             w = both.zeros(DType::f32, {5, 4});
  const auto product = [&](const Pair& a, const Pair& b, const Pair& c) {
    both.cuda.gemm(Transpose::no, Transpose::no, 1.0, a.cuda, b.cuda, 0.0, c.cuda);
  };
  EXPECT_THROW(product(f, f, h), Error);  // F32 to BF16
  EXPECT_THROW(product(f, h, f), Error);
  EXPECT_THROW(product(f, w, f), Error);
}

TEST(CudaGemm, AStatusNamesCallPlaceAndHint) {
  try {
    CUBLAS_CHECK(CUBLAS_STATUS_NOT_SUPPORTED);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(
        error.what(),
        ::testing::AllOf(::testing::HasSubstr("cuBLASLt: CUBLAS_STATUS_NOT_SUPPORTED at gemm_test.cpp:"),
                         ::testing::HasSubstr("CUBLASLT_LOG_LEVEL")));
  }
}

// --- plans ---

// Products of a 16 x 16 matrix with itself into c, through plans of their own.
class GemmPlansTest : public ::testing::Test {
 protected:
  GemmProblem problem(int64_t rows) const {
    return {.rows = rows,
            .cols = 16,
            .depth = 16,
            .a_stride = 16,
            .b_stride = 16,
            .c_stride = 16,
            .a_alignment = 256,
            .b_alignment = 256,
            .c_alignment = 256};
  }
  void run(GemmPlans& plans, int64_t rows, double beta) {
    plans.run(problem(rows),
              {.alpha = 1.0,
               .a = a_.cuda.data,
               .b = a_.cuda.data,
               .beta = beta,
               .c = c_.cuda.data,
               .bias = nullptr,
               .workspace = workspace_.cuda.data},
              both_.cuda_ops.stream());
  }
  Values product(double beta) {
    both_.cpu.gemm(Transpose::no, Transpose::no, 1.0, a_.cpu, a_.cpu, beta, c_.cpu);
    return both_.read_cpu(c_);
  }
  std::string path() const { return (directory_.path() / "gemm.txt").string(); }

  polar::test::TemporaryDirectory directory_;
  Both both_;
  Pair a_ = both_.random(DType::f32, {16, 16}, 1), c_ = both_.random(DType::f32, {16, 16}, 2);
  Pair workspace_ = both_.workspace(0, GemmPlans::kWorkspaceBytes);
};

TEST_F(GemmPlansTest, WithoutAFileNothingIsMeasured) {
  GemmPlans plans("", "gpu");
  run(plans, 16, 0.0);
  EXPECT_EQ(plans.measured(), 0);
}

TEST_F(GemmPlansTest, AKindIsMeasuredOnceAndKept) {
  {
    GemmPlans plans(path(), "gpu");
    run(plans, 16, 0.0);
    run(plans, 16, 0.0);
    EXPECT_EQ(plans.measured(), 1);
    run(plans, 8, 0.0);
    EXPECT_EQ(plans.measured(), 2);
  }
  GemmPlans again(path(), "gpu");
  run(again, 16, 0.0);
  run(again, 8, 0.0);
  EXPECT_EQ(again.measured(), 0);
  GemmPlans elsewhere(path(), "another gpu");
  run(elsewhere, 16, 0.0);
  EXPECT_EQ(elsewhere.measured(), 1);
}

TEST_F(GemmPlansTest, MeasuringAddsNothingTwice) {
  GemmPlans plans(path(), "gpu");
  run(plans, 16, 1.0);
  EXPECT_EQ(plans.measured(), 1);
  expect_close(both_.read_cuda(c_), product(1.0), 1e-5, "c");
}

TEST_F(GemmPlansTest, NothingIsMeasuredWhileAGraphIsCaptured) {
  GemmPlans plans(path(), "gpu");
  const cudaStream_t stream = both_.cuda_ops.stream().get();
  CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  run(plans, 16, 0.0);
  cudaGraph_t graph = nullptr;
  CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  CUDA_CHECK(cudaGraphDestroy(graph));
  EXPECT_EQ(plans.measured(), 0);
}

TEST_F(GemmPlansTest, ADamagedFileIsNoHarm) {
  {
    GemmPlans plans(path(), "gpu");
    run(plans, 16, 0.0);
  }
  const std::string whole = read_file(path());
  for (size_t length = 0; length < whole.size(); length += 7) {
    write_file_atomically(path(), whole.substr(0, length));
    GemmPlans plans(path(), "gpu");
    run(plans, 16, 0.0);
    expect_close(both_.read_cuda(c_), product(0.0), 1e-5, "c");
  }
}

TEST_F(GemmPlansTest, AFileThatCannotBeWrittenIsNoError) {
  GemmPlans plans((directory_.path() / "missing" / "gemm.txt").string(), "gpu");
  run(plans, 16, 0.0);
  expect_close(both_.read_cuda(c_), product(0.0), 1e-5, "c");
}

}  // namespace
}  // namespace polar::cuda::test
