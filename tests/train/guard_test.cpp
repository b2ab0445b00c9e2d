// The loss guard in a run: a diverging run stops with its own code, and nothing overwrites the good
// checkpoint.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "fixture.h"
#include "train/run.h"
#include "train/trainer.h"

namespace polar::test {
namespace {

class Guard : public TinyRun {};

// Before its first step.
struct StartedTrainer {
  explicit StartedTrainer(const Experiment& e) : experiment(e) {
    trainer.initialize();
    trainer.start();
  }
  // The flat weights of the model, as they are now.
  float* weights() { return trainer.plan().model.parameters().as<float>(); }
  std::vector<float> copy_of_weights() {
    return {weights(), weights() + trainer.plan().model.registry().flat_count()};
  }

  const Experiment experiment;
  const std::unique_ptr<Ops> ops = make_ops({"cpu", 2});
  const std::unique_ptr<Communicator> comm = make_single_communicator(*ops);
  Trainer trainer{experiment, *ops, *comm};
};

TEST_F(Guard, ADivergingRunStopsAndKeepsTheLastGoodCheckpoint) {
  ASSERT_EQ(train(experiment("a", {"train.max_steps=5", "checkpoint.every_steps=1"}), {}), ExitCode::done);
  const std::string good = state_of("a", 5);
  // The first step at an absurd rate is applied and ruins the weights; from the next one on every step is
  // skipped.
  TrainOptions options;
  options.change_config = true;
  const Experiment e = experiment("a", {"optimizer.groups.0.lr=1e30", "optimizer.groups.1.lr=1e30",
                                        "checkpoint.every_steps=1", "guard.max_consecutive_skips=4"});
  EXPECT_EQ(train(e, options), ExitCode::stopped_by_guard);
  EXPECT_EQ(list_steps(path("a")), (std::vector<int64_t>{1, 2, 3, 4, 5}));  // nothing of the ruined weights
  EXPECT_EQ(state_of("a", 5), good);
  const MetricsTable metrics = read_metrics(path("a") / "metrics.jsonl");
  EXPECT_EQ(metrics.step.back(), 10);
  EXPECT_EQ(metrics.column("skipped").back(), 4.0);
}

TEST_F(Guard, WeightsThatTheLastStepRuinedAreNotSaved) {
  const Experiment e = experiment("a", {"optimizer.groups.0.lr=1e39", "optimizer.groups.1.lr=1e39",
                                        "train.max_steps=1", "schedule={kind: constant}"});
  try {
    train(e, {});
    FAIL() << "saved";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::stopped_by_guard) << error.what();
  }
  EXPECT_TRUE(list_steps(path("a")).empty());
}

TEST_F(Guard, ASkippedStepChangesNothingAndTheRunGoesOn) {
  StartedTrainer started(experiment("a"));
  Trainer& trainer = started.trainer;
  const auto never = [] { return false; };
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(trainer.step(never)->applied);
  float* weights = started.weights();
  const std::vector<float> before = started.copy_of_weights();

  weights[trainer.plan().model.registry()[0].offset + 40] = std::numeric_limits<float>::quiet_NaN();
  // That row belongs to one token; with the final norm poisoned as well every token meets it.
  const int norm = trainer.plan().model.registry().find("model.norm.weight");
  weights[trainer.plan().model.registry()[norm].offset] = std::numeric_limits<float>::infinity();
  const std::vector<float> poisoned = started.copy_of_weights();
  const auto skipped = trainer.step(never);
  EXPECT_FALSE(skipped->applied);
  EXPECT_EQ(skipped->consecutive_skips, 1);
  for (size_t i = 0; i < poisoned.size(); ++i)
    ASSERT_TRUE(weights[i] == poisoned[i] || (std::isnan(weights[i]) && std::isnan(poisoned[i]))) << i;

  std::copy(before.begin(), before.end(), weights);
  const auto next = trainer.step(never);
  EXPECT_TRUE(next->applied);
  EXPECT_EQ(next->consecutive_skips, 0);
  EXPECT_EQ(next->total_skips, 1);
}

TEST_F(Guard, AFactorizationThatFailsNamesStepAndParameter) {
  StartedTrainer started(experiment("a", {"optimizer.groups.0={match: ['*_proj.weight'], type: shampoo}"}));
  Trainer& trainer = started.trainer;
  const auto never = [] { return false; };
  EXPECT_TRUE(trainer.step(never)->applied);
  const std::string parameter = "model.layers.1.mlp.up_proj.weight";
  for (const StateTensor& state : trainer.plan().optimizer.state())
    if (state.name == "shampoo.l:" + parameter)
      started.ops->fill(state.tensor, std::numeric_limits<double>::quiet_NaN());
  try {
    for (int i = 0; i < 20; ++i) trainer.step(never);
    FAIL() << "no roots in 20 steps";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::MatchesRegex("step [0-9]+: optimizer group [^ ]+: " + parameter +
                                                      " \\(its shampoo.l is not finite\\): .*"));
  }
}

TEST_F(Guard, AnInterruptedStepChangesNothing) {
  StartedTrainer started(experiment("a"));
  Trainer& trainer = started.trainer;
  const std::vector<float> before = started.copy_of_weights();
  int asked = 0;
  EXPECT_FALSE(trainer.step([&] { return asked++ == 1; }));
  EXPECT_EQ(started.copy_of_weights(), before);
  EXPECT_EQ(trainer.progress().step, 0);
}

}  // namespace
}  // namespace polar::test
