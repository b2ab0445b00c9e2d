// Shapes and views.
#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace polar::test {
namespace {

TEST(Shape, CountTextAndLimits) {
  EXPECT_EQ(Shape{}.count(), 1);  // a scalar
  EXPECT_EQ((Shape{2, 3, 4, 5}.count()), 120);
  EXPECT_EQ((Shape{0, 3}.count()), 0);
  EXPECT_EQ((Shape{int64_t{1} << 20, int64_t{1} << 20}.count()), int64_t{1} << 40);
  EXPECT_EQ((Shape{4096, 256}.text()), "[4096, 256]");
  EXPECT_EQ(Shape{}.text(), "[]");
  EXPECT_TRUE((Shape{2, 3} == Shape{2, 3}));
  EXPECT_FALSE((Shape{2, 3} == Shape{2, 3, 1}));
  EXPECT_THROW((Shape{1, 2, 3, 4, 5}), Error);
}

TEST(DTypes, SizesAndNames) {
  EXPECT_EQ(size_of(DType::f32), 4u);
  EXPECT_EQ(size_of(DType::f64), 8u);
  EXPECT_EQ(size_of(DType::bf16), 2u);
  EXPECT_EQ(size_of(DType::i32), 4u);
  EXPECT_EQ(name_of(DType::bf16), "BF16");
  EXPECT_EQ(name_of(DType::f64), "F64");
}

TEST(Tensor, SlicesAndViewsPointIntoTheSameMemory) {
  double memory[24];
  const Tensor t{memory, DType::f64, {2, 3, 4}};
  EXPECT_EQ(t.bytes(), sizeof(memory));
  EXPECT_EQ(t.slice(5, {2, 2}).as<double>(), memory + 5);
  EXPECT_EQ(t.slice(5, {2, 2}).count(), 4);
  const MatrixView view = t;
  EXPECT_EQ(view.rows, 6);
  EXPECT_EQ(view.cols, 4);
  EXPECT_EQ(view.stride, 4);
  const MatrixView part = view.columns(1, 2);
  EXPECT_EQ(part.data, memory + 1);
  EXPECT_EQ(part.rows, 6);
  EXPECT_EQ(part.cols, 2);
  EXPECT_EQ(part.stride, 4);
  const MatrixView scalar = Tensor{memory, DType::f64, {}};
  EXPECT_EQ(scalar.rows * scalar.cols, 1);
  EXPECT_FALSE(Tensor{});
}

}  // namespace
}  // namespace polar::test
