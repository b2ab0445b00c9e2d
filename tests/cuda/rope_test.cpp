// Per-head norm and rotary embedding against the CPU: head widths with and without whole pieces, in place,
// decoding.
#include "cuda/orders.h"

namespace polar::cuda::test {
namespace {

struct RopeCase {
  DType dtype;
  int64_t rows, heads, head_dim;
  bool norm;
  int64_t pad;  // columns before the heads in a row
  int64_t time = 5, first_position = 3;
  std::string text() const {
    return std::to_string(rows) + " rows, " + std::to_string(heads) + " heads of " +
           std::to_string(head_dim) + (norm ? ", norm" : "") + ", pad " + std::to_string(pad);
  }
};

std::vector<RopeCase> cases() {
  std::vector<RopeCase> list;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const bool norm : {true, false})
      for (const int64_t head_dim : {2, 6, 32, 64, 96, 128, 256})
        for (const int64_t pad : {0, 3, 8}) {
          list.push_back({dtype, 7, 3, head_dim, norm, pad});
          if (pad == 8) list.push_back({dtype, 33, 2, head_dim, norm, pad});
        }
  return list;
}

// The arrays of a case; the table is F32 on both sides.
struct RopeArrays {
  Pair x, weight, table, y, gradient, dweight, workspace;
  RopeArrays(Both& both, const RopeCase& c)
      : x(both.random(c.dtype, {c.rows, c.heads * c.head_dim + c.pad}, 1)),
        weight(both.random(c.dtype, {c.head_dim}, 2)),
        table(both.random(DType::f32, {c.first_position + c.time, c.head_dim}, 3, 0.5)),
        y(both.zeros(c.dtype, {c.rows, c.heads * c.head_dim})),
        gradient(both.random(c.dtype, {c.rows, c.heads * c.head_dim + c.pad}, 4)),
        dweight(both.random(DType::f32, {c.head_dim}, 5)),
        workspace(both.workspace(
            both.cpu.qk_norm_rope_backward_workspace(c.rows, c.heads, c.head_dim, DType::f32),
            both.cuda.qk_norm_rope_backward_workspace(c.rows, c.heads, c.head_dim, c.dtype))) {}
};

template <class Args>
void set_shape(const RopeCase& c, const Tensor& table, Args& args) {
  args.time = c.time;
  args.first_position = c.first_position;
  args.heads = c.heads;
  args.head_dim = c.head_dim;
  args.rope_table = table;
}

template <class Side>
void forward(Ops& ops, const RopeCase& c, const RopeArrays& arrays, Side side, bool in_place = false) {
  QkNormRopeForward args;
  set_shape(c, side(arrays.table), args);
  args.input = MatrixView(side(arrays.x)).columns(c.pad, c.heads * c.head_dim);
  if (c.norm) args.weight = side(arrays.weight);
  args.output = in_place ? args.input : MatrixView(side(arrays.y));
  ops.qk_norm_rope_forward(args);
}
template <class Side>
void backward(Ops& ops, const RopeCase& c, const RopeArrays& arrays, Side side) {
  QkNormRopeBackward args;
  set_shape(c, side(arrays.table), args);
  args.dgradient = MatrixView(side(arrays.gradient)).columns(c.pad, c.heads * c.head_dim);
  if (c.norm) {
    args.input = MatrixView(side(arrays.x)).columns(c.pad, c.heads * c.head_dim);
    args.weight = side(arrays.weight);
    args.dweight = side(arrays.dweight);
    args.workspace = side(arrays.workspace);
  }
  ops.qk_norm_rope_backward(args);
}
Tensor cpu_side(const Pair& pair) {
  return pair.cpu;
}
Tensor cuda_side(const Pair& pair) {
  return pair.cuda;
}

TEST(CudaRope, ForwardAndInPlace) {
  Both both;
  for (const RopeCase& c : cases()) {
    const RopeArrays arrays(both, c);
    forward(both.cpu, c, arrays, cpu_side);
    forward(both.cuda, c, arrays, cuda_side);
    expect_result(c.dtype, both.read_cuda(arrays.y), both.read_cpu(arrays.y), c.text());
    forward(both.cpu, c, arrays, cpu_side, true);
    forward(both.cuda, c, arrays, cuda_side, true);
    expect_result(c.dtype, both.read_cuda(arrays.x), both.read_cpu(arrays.x), c.text() + ", in place");
  }
}

TEST(CudaRope, Backward) {
  Both both;
  for (const RopeCase& c : cases()) {
    const RopeArrays arrays(both, c);
    backward(both.cpu, c, arrays, cpu_side);
    backward(both.cuda, c, arrays, cuda_side);
    expect_result(c.dtype, both.read_cuda(arrays.gradient), both.read_cpu(arrays.gradient), c.text());
    expect_close(both.read_cuda(arrays.dweight), both.read_cpu(arrays.dweight), 1e-5, "dweight, " + c.text());
  }
}

// More heads than the blocks take at once.
TEST(CudaRope, BackwardOfManyRows) {
  Both both;
  const RopeCase c{DType::bf16, 1500, 6, 32, true, 0, 1500};
  const RopeArrays arrays(both, c);
  backward(both.cpu, c, arrays, cpu_side);
  backward(both.cuda, c, arrays, cuda_side);
  expect_result(c.dtype, both.read_cuda(arrays.gradient), both.read_cpu(arrays.gradient), c.text());
  expect_close(both.read_cuda(arrays.dweight), both.read_cpu(arrays.dweight), 1e-5, "dweight");
}

TEST(CudaRope, GradientsAreTheSameInEveryOrder) {
  Both both;
  for (const int64_t head_dim : {6, 64})
    expect_same_bits_in_every_order("gradients", [&] {
      const RopeCase c{DType::bf16, 70, 3, head_dim, true, 0};
      const RopeArrays arrays(both, c);
      backward(both.cuda, c, arrays, cuda_side);
      Values all = both.read_cuda(arrays.gradient);
      const Values dweight = both.read_cuda(arrays.dweight);
      all.insert(all.end(), dweight.begin(), dweight.end());
      return all;
    });
}

TEST(CudaRope, TheTableIsF32) {
  Both both;
  RopeCase c{DType::bf16, 3, 1, 32, false, 0};
  RopeArrays arrays(both, c);
  arrays.table = both.random(DType::bf16, {8, 32}, 3);
  EXPECT_THROW(forward(both.cuda, c, arrays, cuda_side), std::runtime_error);
}

}  // namespace
}  // namespace polar::cuda::test
