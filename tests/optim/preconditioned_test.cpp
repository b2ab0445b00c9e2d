// Shampoo and SOAP against pytorch_optimizer's: ten steps (tools/reference/baselines.py); what a skipped
// step, a resume and the count of applied steps may and may not change.
#include <gmock/gmock.h>

#include <algorithm>

#include "base/error.h"
#include "config/reader.h"
#include "harness.h"

namespace polar::testing {
namespace {

using ::testing::HasSubstr;

using Parameters = std::vector<std::pair<std::string, Shape>>;

OptimizerConfig one_group(const char* type, const std::function<void(GroupConfig&)>& change = {}) {
  GroupConfig group = group_defaults(type);
  group.match = {"*"};
  if (change) change(group);
  return {.groups = {group}};
}

// Every tensor "case.KIND:NAME" that the file has against the state "TYPE.KIND:NAME".
template <class T>
void compare_state(const Golden& golden, const Harness<T>& harness, const std::string& type,
                   const std::string& test_case, const char* kind, double tolerance) {
  const auto state = harness.state();
  for (const auto& [name, shape] : golden.parameters()) {
    const std::string want = test_case + "." + kind + ":" + name, got = type + "." + kind + ":" + name;
    const auto& tensors = golden.file().tensors();
    const bool wanted = std::any_of(tensors.begin(), tensors.end(),
                                    [&](const TensorInfo& tensor) { return tensor.name == want; });
    EXPECT_EQ(wanted, state.contains(got)) << want;
    if (!wanted || !state.contains(got)) continue;
    EXPECT_LE(relative_difference(state.at(got), golden_values(golden.file(), want)), tolerance) << want;
  }
}

// --- Shampoo ---

struct ShampooCase {
  std::string name;
  double beta1, beta2, eps, decay;
  int64_t every;
};
const ShampooCase kShampooCases[] = {{"sum", 0.0, 1.0, 1e-3, 0.1, 1},
                                     {"sum_every_3", 0.0, 1.0, 1e-3, 0.0, 3},
                                     {"average", 0.0, 0.95, 1e-20, 0.0, 1},
                                     {"momentum", 0.9, 0.95, 0.95e-2, 0.0, 1000}};

template <class T>
void expect_shampoo(double tolerance) {
  const Golden golden("shampoo.safetensors");
  for (const ShampooCase& c : kShampooCases) {
    // The first gradient of `square` has a condition number of 963, L that squared: with next to no eps a
    // root in f32 would have no digits left, in f64 it has 10.
    const bool ill = c.eps < 1e-6;
    if (ill && sizeof(T) < sizeof(double)) continue;
    Harness<T> harness(one_group("shampoo",
                                 [&](GroupConfig& group) {
                                   group.lr = 0.05;
                                   group.betas = {c.beta1, c.beta2};
                                   group.eps = c.eps;
                                   group.weight_decay = c.decay;
                                   group.precondition_frequency = c.every;
                                 }),
                       golden.parameters());
    golden.run(harness);
    golden.compare(harness, c.name, ill ? 1e-10 : tolerance, {});
  }
}

TEST(Shampoo, EqualsIndependentCodeInDouble) {
  expect_shampoo<double>(1e-12);
}
TEST(Shampoo, EqualsIndependentCodeInSingle) {
  expect_shampoo<float>(1e-6);
}

// --- SOAP ---

OptimizerConfig soap(int64_t longest) {
  return one_group("soap", [&](GroupConfig& group) {
    group.lr = 0.05;
    group.betas = {0.9, 0.95};
    group.eps = 1e-30;
    group.precondition_frequency = 3;
    group.max_dimension = longest;
  });
}

template <class T>
void expect_soap(double tolerance) {
  const Golden golden("soap.safetensors");
  for (const auto& [name, longest] : {std::pair{"one_sided", 8}, {"both", 10000}}) {
    Harness<T> harness(soap(longest), golden.parameters());
    golden.run(harness, [&](int64_t step) {
      if (step > 0 || longest == 8) return;
      // Eigenvectors to eigenvalue 0 may be any: those that the independent code has taken.
      for (const auto& [parameter, shape] : golden.parameters())
        for (const char* side : {"q_l:", "q_r:"})
          harness.set_state("soap." + (side + parameter),
                            golden_values(golden.file(), std::string(name) + "." + side + parameter));
    });
    golden.compare(harness, name, tolerance, {});
    for (const char* kind : {"l", "r"}) compare_state(golden, harness, "soap", name, kind, tolerance);
  }
}

TEST(Soap, EqualsIndependentCodeInDouble) {
  expect_soap<double>(1e-12);
}
TEST(Soap, EqualsIndependentCodeInSingle) {
  expect_soap<float>(1e-6);
}

// --- both ---

const Parameters kModel = {{"attn", {8, 8}}, {"up", {12, 5}}, {"down", {5, 12}}, {"long", {30, 4}}};

OptimizerConfig small(const char* type, int64_t every) {
  return one_group(type, [&](GroupConfig& group) {
    group.lr = 0.02;
    group.weight_decay = 0.1;
    group.eps = 1e-6;
    group.precondition_frequency = every;
    group.max_dimension = 20;  // one side of `long`
  });
}

template <class T>
void set_gradients(Harness<T>& harness, uint64_t step, double scale = 1.0) {
  for (const auto& [name, shape] : kModel)
    harness.set_gradient(name, normal(stream_of(name.data(), name.size()) + step, shape.count(), scale));
}
template <class T>
void set_parameters(Harness<T>& harness) {
  for (const auto& [name, shape] : kModel) harness.set(name, normal(shape[0], shape.count()));
}

class Preconditioned : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Types, Preconditioned, ::testing::Values("shampoo", "soap"),
                         [](const auto& test) { return std::string(test.param); });

// Skipped steps, their gradients not even numbers: before the first, at a step that makes new bases and at
// one that does not. They leave no trace, neither at once nor in when the bases are made.
TEST_P(Preconditioned, ASkippedStepChangesNothing) {
  Harness<float> skipping(small(GetParam(), 3), kModel), plain(small(GetParam(), 3), kModel);
  set_parameters(skipping);
  set_parameters(plain);
  const auto skip = [&](double value) {
    const auto parameters = skipping.all_parameters();
    const auto state = skipping.state();
    set_gradients(skipping, 0, value);
    skipping.step(1.0, false);
    EXPECT_EQ(skipping.all_parameters(), parameters);
    EXPECT_EQ(skipping.state(), state);
  };
  skip(NAN);
  skip(1.0);
  for (uint64_t step = 1; step <= 8; ++step) {
    for (Harness<float>* harness : {&skipping, &plain}) {
      set_gradients(*harness, step);
      harness->step(0.5);
    }
    skip(step % 2 == 0 ? INFINITY : 1e30);
  }
  EXPECT_EQ(skipping.all_parameters(), plain.all_parameters());
  EXPECT_EQ(skipping.state(), plain.state());
}

// What a resume does, at every step of a round of bases.
TEST_P(Preconditioned, StateIsAllThereIs) {
  for (const uint64_t cut : {1, 2, 3, 4}) {
    Harness<float> whole(small(GetParam(), 3), kModel), first(small(GetParam(), 3), kModel),
        second(small(GetParam(), 3), kModel);
    for (uint64_t step = 0; step < 8; ++step) {
      if (step == cut) second.load(first);
      for (Harness<float>* harness : {&whole, step < cut ? &first : &second}) {
        set_gradients(*harness, step);
        harness->step();
      }
    }
    EXPECT_EQ(second.all_parameters(), whole.all_parameters()) << cut;
    EXPECT_EQ(second.state(), whole.state()) << cut;
  }
}

TEST_P(Preconditioned, OneAndTwoThreadsGiveTheSameBits) {
  std::vector<std::vector<double>> results;
  for (const int threads : {1, 2}) {
    const Parameters parameters = {{"a", {70, 130}}, {"b", {130, 70}}};
    OptimizerConfig config = small(GetParam(), 2);
    config.groups[0].max_dimension = 130;
    Harness<float> harness(config, parameters, threads);
    for (uint64_t step = 0; step < 4; ++step) {
      for (const auto& [name, shape] : parameters)
        harness.set_gradient(name, normal(step + static_cast<uint64_t>(shape[0]), shape.count()));
      harness.step();
    }
    results.push_back(harness.all_parameters());
  }
  EXPECT_EQ(results[0], results[1]);
}

// A scale of all gradients, as clipping is one: Shampoo's update has degree 0 in sums, SOAP's in averages.
TEST_P(Preconditioned, TheScaleOfTheGradientsDoesNotMatter) {
  const auto run = [](double in_gradient, double in_control) {
    OptimizerConfig config = small(GetParam(), 2);
    config.groups[0].eps = 1e-30;
    Harness<double> harness(config, {{"w", {6, 6}}});
    for (uint64_t step = 0; step < 5; ++step) {
      harness.set_gradient("w", normal(step, 36, in_gradient));
      harness.step(in_control);
    }
    return harness.all_parameters();
  };
  EXPECT_LE(relative_difference(run(1e3, 1.0), run(1.0, 1.0)), 1e-9);
  EXPECT_LE(relative_difference(run(1.0, 1e-3), run(1.0, 1.0)), 1e-9);
}

TEST_P(Preconditioned, AZeroGradientIsNoTrouble) {
  Harness<float> harness(small(GetParam(), 1), kModel);
  set_parameters(harness);
  set_gradients(harness, 0, 0.0);
  for (int step = 0; step < 3; ++step) harness.step();
  for (const double value : harness.all_parameters()) EXPECT_TRUE(std::isfinite(value));
}

TEST_P(Preconditioned, AFactorizationThatFailsNamesTheParameter) {
  Harness<float> harness(small(GetParam(), 1), kModel);
  set_parameters(harness);
  set_gradients(harness, 0);
  harness.step();
  const std::string state = std::string(GetParam()) + ".r";
  harness.set_state(state + ":down", std::vector<double>(144, NAN));
  try {
    harness.step();
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(": down (its " + state + " is not finite): "));
    EXPECT_THAT(error.what(), HasSubstr("lower learning rate"));
  }
}

TEST_P(Preconditioned, SidesThatAreTooLongHaveNoState) {
  const std::string type = GetParam();
  const Harness<float> harness(small(GetParam(), 3), kModel);
  const auto state = harness.state();
  EXPECT_TRUE(state.contains(type + ".l:up"));
  EXPECT_FALSE(state.contains(type + ".l:long"));
  EXPECT_TRUE(state.contains(type + ".r:long"));
  EXPECT_THAT(harness.optimizer().table(), HasSubstr("right side only"));
}

TEST_P(Preconditioned, RefusesWhatItCannotDo) {
  const auto message = [](OptimizerConfig config) {
    try {
      Harness<float> harness(config, kModel);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  OptimizerConfig config = small(GetParam(), 3);
  config.groups[0].max_dimension = 7;
  EXPECT_THAT(message(config), ::testing::AllOf(HasSubstr("attn [8, 8]"), HasSubstr("max_dimension = 7")));
  config = small(GetParam(), 0);
  EXPECT_THAT(message(config), HasSubstr("precondition_frequency"));
  config = small(GetParam(), 1);
  config.groups[0].betas = {0.9, 1.0};
  EXPECT_THAT(message(config), std::string(GetParam()) == "soap" ? HasSubstr("betas") : HasSubstr("nothing"));
  config.groups[0].betas = {1.0, 0.9};
  EXPECT_THAT(message(config), HasSubstr("betas"));
}

}  // namespace
}  // namespace polar::testing
