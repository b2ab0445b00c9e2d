// SwiGLU against the CPU: ragged and unaligned widths, large gates, in place.
#include "cuda/orders.h"

namespace polar::cuda::test {
namespace {

// Gates from -60 to 60: sigmoid from 0 to 1, without overflow in between.
Pair gates(Both& both, DType dtype, int64_t rows, int64_t width) {
  return both.random(dtype, {rows, width}, 1, 20.0);
}

TEST(CudaSwiglu, ForwardAndBackward) {
  Both both;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t rows : {1, 19})
      for (const int64_t width : {1, 5, 64, 200, 1100})
        for (const int64_t pad : {0, 3, 8}) {
          const Pair x = gates(both, dtype, rows, 2 * width + pad);
          const Pair y = both.zeros(dtype, {rows, width + pad}),
                     dy = both.random(dtype, {rows, width + pad}, 2);
          const Pair dx = both.zeros(dtype, {rows, 2 * width + pad});
          const MatrixPair in = matrix(x).columns(pad, 2 * width), out = matrix(y).columns(pad, width);
          both.cpu.swiglu_forward(in.cpu, out.cpu);
          both.cuda.swiglu_forward(in.cuda, out.cuda);
          expect_result(dtype, both.read_cuda(y), both.read_cpu(y), "out");
          const MatrixPair dout = matrix(dy).columns(pad, width), din = matrix(dx).columns(pad, 2 * width);
          both.cpu.swiglu_backward(dout.cpu, in.cpu, din.cpu);
          both.cuda.swiglu_backward(dout.cuda, in.cuda, din.cuda);
          expect_result(dtype, both.read_cuda(dx), both.read_cpu(dx), "dgate_up");
          both.cuda.swiglu_backward(dout.cuda, in.cuda, in.cuda);  // in place
          Values got = both.read_cuda(x), want = both.read_cuda(dx);
          for (size_t i = 0; i < got.size(); ++i)
            if (static_cast<int64_t>(i) % (2 * width + pad) >= pad) {
              ASSERT_EQ(got[i], want[i]);
            }
        }
}

TEST(CudaSwiglu, ExtremeGatesStayFinite) {
  Both both;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const Pair x = both.make(dtype, {1, 8}, {-1e30, 1e30, -120.0, 120.0, 2.0, 2.0, 2.0, 2.0});
    const Pair y = both.zeros(dtype, {1, 4}), dx = both.zeros(dtype, {1, 8});
    const Pair dy = both.constant(dtype, {1, 4}, 1.0);
    both.cuda.swiglu_forward(x.cuda, y.cuda);
    both.cuda.swiglu_backward(dy.cuda, x.cuda, dx.cuda);
    for (const double value : both.read_cuda(y)) EXPECT_TRUE(std::isfinite(value));
    for (const double value : both.read_cuda(dx)) EXPECT_TRUE(std::isfinite(value));
  }
}

}  // namespace
}  // namespace polar::cuda::test
