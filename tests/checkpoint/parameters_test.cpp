// Parameters of a registry from and to files: complete, and nothing else.
#include "checkpoint/parameters.h"

#include <gmock/gmock.h>

#include <numeric>

#include "errors.h"
#include "temporary.h"

namespace polar::test {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Fixture {
  TemporaryDirectory dir;
  ParameterRegistry registry;
  std::vector<float> memory;
  Tensor flat;
  Fixture() {
    registry.add("embed", Role::embedding, {4, 3});
    registry.add("q", Role::matrix, {2, 3});
    registry.add("k", Role::matrix, {1, 3}, true);
    memory.resize(static_cast<size_t>(registry.flat_count()));
    std::iota(memory.begin(), memory.end(), 1.0f);
    flat = {memory.data(), DType::f32, {registry.flat_count()}};
  }
  void write(const std::vector<NamedTensor>& tensors) {
    write_safetensors(dir / "model.safetensors", tensors);
  }
};

TEST(Parameters, RoundTripLeavesThePaddingAlone) {
  Fixture f;
  f.write(named_parameters(f.registry, f.flat));
  std::vector<float> back(f.memory.size(), -1.0f);
  read_parameters(TensorSource(f.dir.path()), f.registry, {back.data(), DType::f32, f.flat.shape});
  std::vector<float> expected(f.memory.size(), -1.0f);
  for (const Parameter& p : f.registry.parameters())
    for (int64_t i = p.offset; i < p.offset + p.count(); ++i)
      expected[static_cast<size_t>(i)] = f.memory[static_cast<size_t>(i)];
  EXPECT_EQ(back, expected);
  EXPECT_EQ(named_parameters(f.registry, f.flat, "adamw.m:")[1].name, "adamw.m:q");
}

TEST(Parameters, EveryMismatchIsListed) {
  Fixture f;
  f.write({{"embed", {f.memory.data(), DType::f32, {3, 4}}},
           {"k", f.registry.view(f.flat, 2)},
           {"extra", f.registry.view(f.flat, 1)}});
  const Error error = error_of([&] { check_parameters(TensorSource(f.dir.path()), f.registry); });
  EXPECT_EQ(error.code(), ExitCode::bad_usage);
  EXPECT_THAT(error.what(), AllOf(HasSubstr("wrong shape: embed is [3, 4], expected [4, 3]"),
                                  HasSubstr("missing: q [2, 3]"), HasSubstr("unexpected: extra [2, 3]"),
                                  Not(HasSubstr("k ["))));
}

TEST(Parameters, ATiedCopyMustBeOne) {
  Fixture f;
  std::vector<NamedTensor> tensors = named_parameters(f.registry, f.flat);
  tensors.push_back({"head", f.registry.view(f.flat, 0)});
  f.write(tensors);
  EXPECT_THAT(mismatches(TensorSource(f.dir.path()), f.registry, {{"head", "embed"}}), IsEmpty());
  std::vector<float> other(12, 5.0f);
  tensors.back().tensor.data = other.data();
  f.write(tensors);
  EXPECT_THAT(mismatches(TensorSource(f.dir.path()), f.registry, {{"head", "embed"}}),
              ElementsAre(HasSubstr("head differs from embed")));
}

TEST(Parameters, TheBufferMustFit) {
  Fixture f;
  f.write(named_parameters(f.registry, f.flat));
  EXPECT_THROW(read_parameters(TensorSource(f.dir.path()), f.registry, {f.memory.data(), DType::f32, {5}}),
               Error);
}

}  // namespace
}  // namespace polar::test
