// The optimizer as a whole: skipped steps, threads, state by name, rates, the table, the memory plan.
#include <gmock/gmock.h>

#include "base/error.h"
#include "harness.h"

namespace polar::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

// Two matrix rules and AdamW, as a model would have them.
OptimizerConfig mixed(const MomentumConfig& momentum, OracleKind oracle) {
  OptimizerConfig config = one_matrix_group([&](GroupConfig& group) {
    group.match = {"*attn*"};
    group.momentum = momentum;
    group.oracle.kind = oracle;
    group.weight_decay = 0.1;
  });
  GroupConfig muon = config.groups[0];
  muon.match = {"*mlp*"};
  muon.name = "muon";
  muon.momentum = {MomentumKind::first, 0.95, true};
  muon.oracle.kind = OracleKind::newton_schulz;
  muon.scale.kind = ScaleKind::jordan;
  GroupConfig adamw;
  adamw.match = {"*"};
  adamw.name = "adamw";
  config.groups.push_back(muon);
  config.groups.push_back(adamw);
  return config;
}

std::vector<std::pair<std::string, Shape>> small_model(int64_t width) {
  return {{"embed", {50, width}},
          {"layers.0.attn", {width, width}},
          {"layers.0.mlp.up", {3 * width, width}},
          {"layers.0.mlp.down", {width, 3 * width}},
          {"layers.0.norm", {width}},
          {"layers.1.attn", {width, width}},
          {"layers.1.mlp.up", {3 * width, width}},
          {"layers.1.mlp.down", {width, 3 * width}},
          {"layers.1.norm", {width}}};
}

template <class T>
void set_gradients(Harness<T>& harness, int64_t width, uint64_t stream, double scale = 1.0) {
  for (const auto& [name, shape] : small_model(width))
    harness.set_gradient(name, normal(stream_of(name.data(), name.size()) + stream, shape.count(), scale));
}

template <class T>
void set_parameters(Harness<T>& harness, int64_t width) {
  for (const auto& [name, shape] : small_model(width))
    harness.set(name, normal(stream_of(name.data(), name.size()), shape.count()));
}

const MomentumConfig kForms[] = {
    {MomentumKind::first, 0.9, false},       {MomentumKind::first, 0.9, true},
    {MomentumKind::polar_first, 0.9, false}, {MomentumKind::polar_first, 0.9, true},
    {MomentumKind::heavy_ball, 0.9, false},  {MomentumKind::none, 0.0, false},
    {MomentumKind::lion, 0.9, false}};

// A skipped step, its gradients not even numbers, leaves no trace: neither at once nor in later steps.
TEST(Optimizer, ASkippedStepChangesNothing) {
  for (const OracleKind oracle : {OracleKind::polar_express, OracleKind::svd})
    for (const MomentumConfig& momentum : kForms) {
      Harness<float> skipping(mixed(momentum, oracle), small_model(8));
      Harness<float> plain(mixed(momentum, oracle), small_model(8));
      set_parameters(skipping, 8);
      set_parameters(plain, 8);
      const std::vector<double> start = skipping.all_parameters();
      set_gradients(skipping, 8, 0, NAN);
      skipping.step(1.0, false);  // the very first step
      EXPECT_EQ(skipping.all_parameters(), start);
      for (uint64_t step = 1; step <= 3; ++step) {
        set_gradients(skipping, 8, step);
        set_gradients(plain, 8, step);
        skipping.step(0.5);
        plain.step(0.5);
        const auto parameters = skipping.all_parameters();
        const auto state = skipping.state();
        set_gradients(skipping, 8, 0, step == 2 ? INFINITY : NAN);
        skipping.step(1.0, false);
        EXPECT_EQ(skipping.all_parameters(), parameters);
        EXPECT_EQ(skipping.state(), state);
      }
      EXPECT_EQ(skipping.all_parameters(), plain.all_parameters());
      EXPECT_EQ(skipping.state(), plain.state());
      EXPECT_NE(plain.all_parameters(), start);
    }
}

TEST(Optimizer, OneAndTwoThreadsGiveTheSameBits) {
  for (const OracleKind oracle : {OracleKind::polar_express, OracleKind::svd})
    for (const MomentumConfig& momentum : {kForms[1], kForms[2]}) {
      const int64_t width = oracle == OracleKind::svd ? 24 : 96;
      std::vector<std::vector<double>> results;
      for (const int threads : {1, 2}) {
        Harness<float> harness(mixed(momentum, oracle), small_model(width), threads);
        set_parameters(harness, width);
        for (uint64_t step = 0; step < 3; ++step) {
          set_gradients(harness, width, step);
          harness.step();
        }
        results.push_back(harness.all_parameters());
      }
      EXPECT_EQ(results[0], results[1]);
    }
}

TEST(Optimizer, StateHasTheNamesAndShapesOfItsParameters) {
  const Harness<float> harness(mixed(kForms[0], OracleKind::polar_express), small_model(8));
  std::vector<std::string> names;
  for (const StateTensor& s : harness.optimizer().state())
    names.push_back(s.name + " " + s.tensor.shape.text());
  EXPECT_THAT(names,
              UnorderedElementsAre(
                  "matrix.momentum:layers.0.attn [8, 8]", "matrix.momentum:layers.1.attn [8, 8]",
                  "matrix.momentum:layers.0.mlp.up [24, 8]", "matrix.momentum:layers.1.mlp.up [24, 8]",
                  "matrix.momentum:layers.0.mlp.down [8, 24]", "matrix.momentum:layers.1.mlp.down [8, 24]",
                  "adamw.m:embed [50, 8]", "adamw.v:embed [50, 8]", "adamw.m:layers.0.norm [8]",
                  "adamw.v:layers.0.norm [8]", "adamw.m:layers.1.norm [8]", "adamw.v:layers.1.norm [8]"));
  EXPECT_THAT(harness.optimizer().group_names(), ElementsAre("matrix", "muon", "adamw"));
}

TEST(Optimizer, WithoutMomentumThereIsNoState) {
  const Harness<float> harness(
      one_matrix_group([](GroupConfig& group) { group.momentum.kind = MomentumKind::none; }),
      {{"w", {4, 4}}});
  EXPECT_TRUE(harness.optimizer().state().empty());
  EXPECT_EQ(harness.plan().category_bytes("optimizer"), 0u);
}

// State copied into a fresh optimizer continues the run bit for bit: what a resume does.
TEST(Optimizer, StateIsAllThereIs) {
  // (the control, which holds Adam's step count, belongs to the trainer)
  for (const MomentumConfig& momentum : kForms) {
    const OptimizerConfig config = one_matrix_group([&](GroupConfig& group) { group.momentum = momentum; });
    Harness<float> whole(config, {{"w", {7, 5}}}), first(config, {{"w", {7, 5}}}),
        second(config, {{"w", {7, 5}}});
    for (uint64_t step = 0; step < 4; ++step) {
      whole.set_gradient("w", normal(step, 35));
      whole.step();
      Harness<float>& part = step < 2 ? first : second;
      if (step == 2) second.load(first);
      part.set_gradient("w", normal(step, 35));
      part.step();
    }
    EXPECT_EQ(second.all_parameters(), whole.all_parameters());
  }
}

TEST(Optimizer, GroupsFollowTheirOwnSchedules) {
  OptimizerConfig config = mixed(kForms[0], OracleKind::polar_express);
  config.groups[2].schedule = ScheduleConfig{.kind = ScheduleKind::linear, .final = 0.5};
  ParameterRegistry registry;
  for (const auto& [name, shape] : small_model(8)) registry.add(name, Role::matrix, shape);
  const Optimizer optimizer(config, {.kind = ScheduleKind::constant, .warmup_steps = 4}, registry, 11,
                            DType::f32);
  EXPECT_THAT(optimizer.learning_rates(0), ElementsAre(0.005, 0.005, 0.001));
  EXPECT_THAT(optimizer.learning_rates(10), ElementsAre(0.02, 0.02, 0.0005));
}

TEST(Optimizer, TheTableShowsRuleAndMultiplier) {
  const Harness<float> harness(mixed(kForms[3], OracleKind::svd), small_model(8));
  const std::string expected =
      "layers.*.attn      [8, 8]   x2  matrix  polar_first 0.9 nesterov, svd                lr 0.02   "
      "scale nuclear -> x1 <U,G>  wd 0.1\n"
      "layers.*.mlp.up    [24, 8]  x2  muon    first 0.95 nesterov, newton_schulz jordan 5  lr 0.02   "
      "scale jordan -> x1.732     wd 0.1\n"
      "layers.*.mlp.down  [8, 24]  x2  muon    first 0.95 nesterov, newton_schulz jordan 5  lr 0.02   "
      "scale jordan -> x1         wd 0.1\n"
      "embed              [50, 8]  x1  adamw   betas 0.9 0.95, eps 1e-08                    lr 0.001  "
      "scale none                 wd 0\n"
      "layers.*.norm      [8]      x2  adamw   betas 0.9 0.95, eps 1e-08                    lr 0.001  "
      "scale none                 wd 0\n";
  EXPECT_EQ(harness.optimizer().table(), expected);
}

TEST(Optimizer, RefusesNesterovWithoutMomentum) {
  ParameterRegistry registry;
  registry.add("w", Role::matrix, {4, 4});
  const OptimizerConfig config = one_matrix_group([](GroupConfig& group) {
    group.momentum = {MomentumKind::none, 0.0, true};
  });
  EXPECT_THROW(Optimizer(config, {}, registry, 10, DType::f32), Error);
}

// The oracle sees a batch of equal shapes and knows no names.
TEST(Optimizer, AFactorizationThatFailsNamesTheParameter) {
  for (const OracleKind kind :
       {OracleKind::svd, OracleKind::qdwh, OracleKind::zolo_pd, OracleKind::gram_eigh}) {
    const auto message = [&](const std::string& poisoned, bool in_gradient) {
      Harness<float> harness(one_matrix_group([&](GroupConfig& group) { group.oracle.kind = kind; }),
                             {{"up", {6, 4}}, {"gate", {6, 4}}, {"down", {4, 6}}});
      for (const char* name : {"up", "gate", "down"}) harness.set_gradient(name, normal(1, 24));
      harness.step();
      if (in_gradient)
        harness.set_gradient(poisoned, std::vector<double>(24, NAN));
      else
        harness.set_state("matrix.momentum:" + poisoned, std::vector<double>(24, INFINITY));
      try {
        harness.step();
      } catch (const Error& error) {
        return std::string(error.what());
      }
      return std::string("nothing");
    };
    EXPECT_THAT(message("gate", true),
                StartsWith("optimizer group matrix: gate (its gradient is not finite): "));
    EXPECT_THAT(message("down", false),
                StartsWith("optimizer group matrix: down (its matrix.momentum is not finite): "));
    EXPECT_THAT(message("down", true), HasSubstr("lower learning rate"));  // what to do
  }
}

// Where nothing that is still there says which it was: these gradients overflow when they are scaled.
TEST(Optimizer, AFactorizationThatFailsNamesAllThatItMayBe) {
  Harness<float> harness(one_matrix_group([&](GroupConfig& group) {
                           group.oracle.kind = OracleKind::svd;
                           group.momentum.kind = MomentumKind::none;
                         }),
                         {{"a", {2, 2}}, {"b", {2, 2}}, {"c", {2, 2}}, {"d", {2, 2}}, {"e", {2, 2}}});
  for (const char* name : {"a", "b", "c", "d", "e"}) harness.set_gradient(name, {1, 2, 3, 4});
  try {
    harness.step(1e200);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), StartsWith("optimizer group matrix: one of a, b, c, d and 1 more: polar_svd"));
  }
}

}  // namespace
}  // namespace polar::testing
