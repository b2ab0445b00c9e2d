// The parameter registry: places, joined parameters, names.
#include "tensor/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "errors.h"

namespace polar::test {
namespace {

TEST(ParameterRegistry, JoinedParametersLieTogether) {
  ParameterRegistry registry;
  const int norm = registry.add("norm", Role::norm, {10});
  const int q = registry.add("q", Role::matrix, {3, 10});
  const int k = registry.add("k", Role::matrix, {1, 10}, true);
  const int v = registry.add("v", Role::matrix, {1, 10}, true);
  const int head = registry.add("head", Role::head, {2, 10});
  EXPECT_EQ(registry[norm].offset, 0);
  EXPECT_EQ(registry[q].offset, 64);
  EXPECT_EQ(registry[k].offset, 64 + 30);
  EXPECT_EQ(registry[v].offset, 64 + 40);
  EXPECT_EQ(registry[head].offset, 128);
  EXPECT_EQ(registry.flat_count(), 192);
  EXPECT_EQ(registry.parameter_count(), 10 + 30 + 10 + 10 + 20);
}

TEST(ParameterRegistry, ViewsAndNames) {
  ParameterRegistry registry;
  registry.add("a", Role::embedding, {4, 4});
  registry.add("b", Role::bias, {5});
  EXPECT_EQ(registry.find("b"), 1);
  EXPECT_EQ(registry.find("c"), -1);
  std::vector<float> memory(static_cast<size_t>(registry.flat_count()));
  const Tensor flat{memory.data(), DType::f32, {registry.flat_count()}};
  EXPECT_EQ(registry.view(flat, 1).data, memory.data() + 64);
  EXPECT_TRUE((registry.view(flat, 1).shape == Shape{5}));
}

TEST(ParameterRegistry, ATakenNameIsAnError) {
  ParameterRegistry registry;
  registry.add("model.norm.weight", Role::norm, {4});
  EXPECT_THAT(message_of([&] { registry.add("model.norm.weight", Role::norm, {4}); }),
              ::testing::HasSubstr("model.norm.weight"));
  EXPECT_EQ(registry.parameter_count(), 4);
}

TEST(ParameterRegistry, RolesHaveNames) {
  EXPECT_EQ(name_of(Role::embedding), "embedding");
  EXPECT_EQ(name_of(Role::head), "head");
  EXPECT_EQ(name_of(Role::norm), "norm");
  EXPECT_EQ(name_of(Role::bias), "bias");
  EXPECT_EQ(name_of(Role::matrix), "matrix");
}

}  // namespace
}  // namespace polar::test
