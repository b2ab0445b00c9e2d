// Flat operations against the CPU: every dtype, ragged counts, unaligned slices, strided rows.
#include "cuda/orders.h"

namespace polar::cuda::test {
namespace {

const int64_t kCounts[] = {1, 3, 8, 9, 255, 4101};
const DType kFloating[] = {DType::f32, DType::f64, DType::bf16};

// Elements [1, 1 + count) of an array: not aligned for 16-byte accesses.
Pair unaligned(const Pair& pair, int64_t count) {
  return {pair.cpu.slice(1, {count}), pair.cuda.slice(1, {count})};
}

TEST(CudaFlat, FillTouchesItsElementsOnly) {
  Both both;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i32})
    for (const int64_t count : kCounts)
      for (const double value : {0.0, 1.5, -7.0}) {
        const Pair x = both.constant(dtype, {count + 2}, 3.0);
        const Pair inner = unaligned(x, count);
        both.cuda.fill(inner.cuda, value);
        Values want(static_cast<size_t>(count + 2), dtype == DType::i32 ? std::trunc(value) : value);
        want.front() = want.back() = 3.0;
        ASSERT_EQ(both.read_cuda(x), want) << count;
        both.cuda.fill(x.cuda, value);
        ASSERT_EQ(both.read_cuda(x)[0], want[1]);
        ASSERT_EQ(both.read_cuda(x).back(), want[1]);
      }
}

TEST(CudaFlat, CopyAndCopyRows) {
  Both both;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i32})
    for (const int64_t cols : {1, 2, 7, 8, 600}) {
      const Pair from = both.random(dtype, {5, cols + 3}, 1, 100.0);
      const Pair whole = both.zeros(dtype, {5, cols + 3}), to = both.zeros(dtype, {5, cols + 8});
      both.cuda.copy(from.cuda, whole.cuda);
      EXPECT_EQ(both.read_cuda(whole), both.read_cuda(from));
      for (Ops* ops : {static_cast<Ops*>(&both.cpu), static_cast<Ops*>(&both.cuda)}) {
        const bool cuda = ops == &both.cuda;
        ops->copy_rows(MatrixView(cuda ? from.cuda : from.cpu).columns(3, cols),
                       MatrixView(cuda ? to.cuda : to.cpu).columns(8, cols));
      }
      ASSERT_EQ(both.read_cuda(to), both.read_cpu(to)) << cols;
    }
}

TEST(CudaFlat, CastRoundsOnce) {
  Both both;
  for (const DType from : kFloating)
    for (const DType to : kFloating)
      for (const int64_t count : kCounts) {
        const Pair x = both.random(from, {count + 1}, 2), y = both.zeros(to, {count + 1});
        const Pair part = unaligned(y, count);
        both.cuda.cast(x.cuda.slice(0, {count}), part.cuda);
        Values want = both.read_cuda(x);
        for (double& value : want) value = rounded_to(to, value);
        want.pop_back();
        want.insert(want.begin(), 0.0);
        ASSERT_EQ(both.read_cuda(y), want) << name_of(from) << " to " << name_of(to) << ", " << count;
      }
}

// A double that lies just above the middle of two bf16, by less than a float can tell.
TEST(CudaFlat, CastFromF64DoesNotRoundTwice) {
  Both both;
  const Pair x = both.make(DType::f64, {1}, {1.0 + 0x1p-8 + 0x1p-40}), y = both.zeros(DType::bf16, {1});
  both.cuda.cast(x.cuda, y.cuda);
  EXPECT_EQ(both.read_cuda(y)[0], 1.0 + 0x1p-7);
}

TEST(CudaFlat, ScaleAndAxpby) {
  Both both;
  for (const DType dtype : kFloating)
    for (const int64_t count : kCounts)
      for (const bool aligned : {true, false}) {
        const Pair x0 = both.random(dtype, {count + 1}, 3), y0 = both.random(dtype, {count + 1}, 4);
        const Pair x = aligned ? x0 : unaligned(x0, count), y = aligned ? y0 : unaligned(y0, count);
        both.cpu.scale(x.cpu, 0.3);
        both.cuda.scale(x.cuda, 0.3);
        expect_result(dtype, both.read_cuda(x0), both.read_cpu(x0), "scale");
        both.write(x0, both.read_cuda(x0));
        both.cpu.axpby(0.7, x.cpu, -1.1, y.cpu);
        both.cuda.axpby(0.7, x.cuda, -1.1, y.cuda);
        expect_result(dtype, both.read_cuda(y0), both.read_cpu(y0), "axpby");
      }
}

// Sums are in f64 on both sides; they may differ by the roundings of at most `count` additions.
TEST(CudaFlat, SumsAccumulateInF64) {
  Both both;
  for (const DType dtype : kFloating)
    for (const int64_t count : {1, 7, 8, 2049, 20001}) {
      const Pair x = both.random(dtype, {count}, 5), y = both.random(dtype, {count}, 6);
      const Values a = both.read_cpu(x), b = both.read_cpu(y);
      for (const bool accumulate : {false, true}) {
        double sizes = 3.0, products = 3.0;
        for (size_t i = 0; i < a.size(); ++i) {
          sizes += std::abs(a[i]);
          products += std::abs(a[i] * b[i]) + a[i] * a[i];
        }
        const double unit = static_cast<double>(count) * 0x1p-52;
        const auto check = [&](auto operation, double scale, const char* what) {
          const Pair out = both.make(DType::f64, {1}, {3.0});
          operation(both.cpu, out.cpu, true);
          operation(both.cuda, out.cuda, false);
          EXPECT_NEAR(both.read_cuda(out)[0], both.read_cpu(out)[0], unit * scale) << what << " " << count;
        };
        check([&](Ops& ops, const Tensor& out, bool cpu) { ops.sum(cpu ? x.cpu : x.cuda, out, accumulate); },
              sizes, "sum");
        check([&](Ops& ops, const Tensor& out,
                  bool cpu) { ops.sum_squares(cpu ? x.cpu : x.cuda, out, accumulate); },
              products, "sum_squares");
        check([&](Ops& ops, const Tensor& out,
                  bool cpu) { ops.dot(cpu ? x.cpu : x.cuda, cpu ? y.cpu : y.cuda, out, accumulate); },
              products, "dot");
      }
    }
}

// More than kMaximumPartialSums of the smallest chunks: ones and twos sum exactly in any order.
TEST(CudaFlat, SumOfMillions) {
  Both both;
  const int64_t count = 1024 * 8192 + 12345;
  const Tensor x{both.cuda.allocate(static_cast<size_t>(count) * 2), DType::bf16, {count}};
  both.cuda.fill(x, 1.0);
  both.cuda.fill(x.slice(count - 1, {1}), 2.0);
  const Pair out = both.zeros(DType::f64, {1});
  both.cuda.sum(x, out.cuda, false);
  EXPECT_EQ(both.read_cuda(out)[0], static_cast<double>(count + 1));
  both.cuda.release(x.data);
}

// Both backends count the same units; within an atom they add in different orders.
TEST(CudaFlat, ExactSquares) {
  Both both;
  const auto value_of = [&](const Tensor& digits) {
    const Pair out = both.zeros(DType::f64, {1});
    both.cuda.exact_value(digits, out.cuda);
    return both.read_cuda(out)[0];
  };
  for (const int64_t count : {1, 3, 64, 100, 1024, 4096 + 37, 300000}) {
    const Pair x = both.random(DType::f32, {count}, 8), digits = both.zeros(DType::f64, {kExactDigits});
    const Pair out = both.zeros(DType::f64, {1});
    both.cpu.exact_squares(x.cpu, digits.cpu, false);
    both.cpu.exact_value(digits.cpu, out.cpu);
    both.cuda.exact_squares(x.cuda, digits.cuda, false);
    const double want = both.read_cpu(out)[0], got = value_of(digits.cuda);
    EXPECT_NEAR(got, want, 64 * 0x1p-53 * want) << count;

    // In two pieces, the second first, and where the array is not aligned: the same bits.
    const int64_t cut = count / 2 / kExactAtom * kExactAtom;
    both.cuda.exact_squares(x.cuda.slice(cut, {count - cut}), digits.cuda, false);
    both.cuda.exact_squares(x.cuda.slice(0, {cut}), digits.cuda, true);
    EXPECT_EQ(value_of(digits.cuda), got) << count;
    const Pair moved = both.zeros(DType::f32, {count + 1});
    both.cuda.copy(x.cuda, moved.cuda.slice(1, {count}));
    both.cuda.exact_squares(moved.cuda.slice(1, {count}), digits.cuda, false);
    EXPECT_EQ(value_of(digits.cuda), got) << count;
  }
  const double largest = std::numeric_limits<float>::max(), smallest = std::numeric_limits<float>::min();
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  const auto squares_of = [&](const Values& values) {
    const Pair x = both.make(DType::f32, {static_cast<int64_t>(values.size())}, values);
    const Pair digits = both.zeros(DType::f64, {kExactDigits});
    both.cuda.exact_squares(x.cuda, digits.cuda, false);
    return value_of(digits.cuda);
  };
  EXPECT_EQ(squares_of({smallest}), smallest * smallest);
  EXPECT_EQ(squares_of(Values(64, largest)), 64 * (largest * largest));
  EXPECT_EQ(squares_of({1.0, infinity}), infinity);
  EXPECT_TRUE(std::isnan(squares_of({infinity, nan})));
  Values apart(129, 0.0);
  apart[0] = 1.0;
  apart[64] = 0x1.6a09e8p-27;  // squared: a little more than half a unit in the last place of 1
  EXPECT_EQ(squares_of(apart), 1.0 + 0x1p-52);
}

TEST(CudaFlat, SumsDoNotDependOnAlignmentOrOrder) {
  Both both;
  for (const DType dtype : kFloating) {
    const int64_t count = 9001;
    const Pair x = both.random(dtype, {count}, 7), moved = both.zeros(dtype, {count + 1});
    const Pair out = both.zeros(DType::f64, {2});
    both.cuda.copy(x.cuda, moved.cuda.slice(1, {count}));
    expect_same_bits_in_every_order("dot", [&] {
      both.cuda.dot(x.cuda, x.cuda, out.cuda.slice(0, {1}), false);
      both.cuda.dot(moved.cuda.slice(1, {count}), x.cuda, out.cuda.slice(1, {1}), false);
      return both.read_cuda(out);
    });
    EXPECT_EQ(both.read_cuda(out)[0], both.read_cuda(out)[1]);
  }
}

void expect_bias(const std::vector<int64_t>& all_rows, const std::vector<int64_t>& all_cols) {
  Both both;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t rows : all_rows)
      for (const int64_t cols : all_cols) {
        const Pair y = both.random(dtype, {rows, cols + 8}, 1), bias = both.random(dtype, {cols}, 2);
        const Pair dbias = both.random(DType::f32, {cols}, 3);
        const MatrixPair view = matrix(y).columns(8, cols);
        both.cpu.bias_backward(view.cpu, dbias.cpu);
        both.cuda.bias_backward(view.cuda, dbias.cuda);
        expect_close(both.read_cuda(dbias), both.read_cpu(dbias), 1e-5, "dbias");
        both.cpu.add_bias(view.cpu, bias.cpu);
        both.cuda.add_bias(view.cuda, bias.cuda);
        expect_result(dtype, both.read_cuda(y), both.read_cpu(y), "y");
      }
}

TEST(CudaFlat, BiasForwardAndBackward) {
  expect_bias({17}, {1, 40, 77});
}
TEST(CudaFlat, BiasOfManyRowsAndColumns) {
  expect_bias({1, 17}, {1100});
  expect_bias({1}, {1, 40, 77});
  expect_bias({300}, {1, 40, 77, 1100});
}

TEST(CudaFlat, BiasGradientIsTheSameInEveryOrder) {
  Both both;
  const Pair dy = both.random(DType::bf16, {1000, 70}, 1);
  expect_same_bits_in_every_order("dbias", [&] {
    const Pair dbias = both.random(DType::f32, {70}, 3);
    both.cuda.bias_backward(dy.cuda, dbias.cuda);
    return both.read_cuda(dbias);
  });
}

TEST(CudaFlat, ViolatedContractsAreErrors) {
  Both both;
  const Pair x = both.zeros(DType::f32, {4}), y = both.zeros(DType::f32, {5}),
             i = both.zeros(DType::i32, {4});
  EXPECT_THROW(both.cuda.copy(x.cuda, y.cuda), std::runtime_error);
  EXPECT_THROW(both.cuda.axpby(1.0, x.cuda, 1.0, y.cuda), std::runtime_error);
  EXPECT_THROW(both.cuda.sum(x.cuda, y.cuda, false), std::runtime_error);
  EXPECT_THROW(both.cuda.scale(i.cuda, 2.0), std::runtime_error);
}

}  // namespace
}  // namespace polar::cuda::test
