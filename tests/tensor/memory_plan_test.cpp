// The memory plan: offsets, alignment, totals by category, the table, and the arena on top.
#include "tensor/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace polar::test {
namespace {

using ::testing::HasSubstr;

TEST(MemoryPlan, BuffersAreAlignedAndDoNotOverlap) {
  MemoryPlan plan;
  const BufferId a = plan.add("parameters", "weights", DType::f32, {3, 5});
  const BufferId none = plan.add("gradients", "none", DType::f32, {0, 5});
  const BufferId b = plan.add("gradients", "gradients", DType::f64, {32});  // exactly one unit of alignment
  const BufferId c = plan.add("parameters", "ids", DType::i32, {65});
  EXPECT_EQ(plan.entry(a).offset, 0u);
  EXPECT_EQ(plan.entry(a).bytes, 60u);
  EXPECT_EQ(plan.entry(none).bytes, 0u);
  EXPECT_EQ(plan.entry(b).offset, 256u);
  EXPECT_EQ(plan.entry(c).offset, 512u);
  EXPECT_EQ(plan.total_bytes(), 512u + 512u);
  size_t end = 0;
  for (const MemoryPlan::Entry& entry : plan.entries()) {
    EXPECT_EQ(entry.offset % MemoryPlan::kAlignment, 0u);
    EXPECT_GE(entry.offset, end);
    end = entry.offset + entry.bytes;
  }
  EXPECT_LE(end, plan.total_bytes());
}

TEST(MemoryPlan, CategoriesAddUpToTheTotal) {
  MemoryPlan plan;
  for (int64_t i = 1; i < 50; ++i)
    plan.add(i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : "c", "x", DType::bf16, {i * 37});
  EXPECT_EQ(plan.category_bytes("a") + plan.category_bytes("b") + plan.category_bytes("c"),
            plan.total_bytes());
  EXPECT_EQ(plan.category_bytes("unknown"), 0u);
}

TEST(MemoryPlan, BeyondFourGiB) {
  MemoryPlan plan;
  const int64_t rows = int64_t{1} << 20;
  plan.add("parameters", "large", DType::f32, {rows, 8192});
  const BufferId next = plan.add("parameters", "next", DType::f32, {1});
  EXPECT_EQ(plan.entry(next).offset, size_t{1} << 35);
}

TEST(MemoryPlan, TheTableNamesCategoriesAndBuffers) {
  MemoryPlan plan;
  plan.add("parameters", "weights", DType::f32, {256, 3});
  plan.add("workspace", "scratch", DType::f32, {256});
  const std::string brief = plan.table(false), full = plan.table(true);
  EXPECT_THAT(brief, ::testing::AllOf(HasSubstr("parameters"), HasSubstr("3072"), HasSubstr("75.0%"),
                                      HasSubstr("total"), HasSubstr("4096"), HasSubstr("100.0%")));
  EXPECT_THAT(brief, ::testing::Not(HasSubstr("scratch")));
  EXPECT_THAT(full, ::testing::AllOf(HasSubstr("weights"), HasSubstr("scratch"), HasSubstr("[256, 3]")));
  EXPECT_THAT(MemoryPlan().table(true), HasSubstr("total"));
}

TEST(Arena, GivesThePlannedPlaces) {
  MemoryPlan plan;
  plan.add("a", "first", DType::f32, {10});
  const BufferId second = plan.add("a", "second", DType::i32, {4, 5});
  std::vector<std::byte> memory(plan.total_bytes());
  const Arena arena(plan, memory.data());
  const Tensor tensor = arena[second];
  EXPECT_EQ(tensor.data, memory.data() + 256);
  EXPECT_EQ(tensor.dtype, DType::i32);
  EXPECT_TRUE((tensor.shape == Shape{4, 5}));
  EXPECT_FALSE(arena[BufferId{}]);
}

TEST(FormatBytes, Units) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(12u << 20), "12.0 MiB");
  EXPECT_EQ(format_bytes(size_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(format_bytes(size_t{5} << 50), "5120.0 TiB");
}

}  // namespace
}  // namespace polar::test
