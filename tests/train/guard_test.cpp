// The loss guard in a run: a diverging run stops with its own code, and nothing overwrites the good
// checkpoint.
#include <cmath>
#include <limits>

#include "fixture.h"
#include "train/run.h"
#include "train/trainer.h"

namespace polar::test {
namespace {

class Guard : public TinyRun {};

TEST_F(Guard, ADivergingRunStopsAndKeepsTheLastGoodCheckpoint) {
  // The first step is still finite, its weights are not: from the second on every step is skipped.
  const Experiment e =
      experiment("a", {"optimizer.groups.0.lr=1e30", "optimizer.groups.1.lr=1e30", "schedule.warmup_steps=0",
                       "checkpoint.every_steps=1", "guard.max_consecutive_skips=4"});
  EXPECT_EQ(train(e, {}), ExitCode::stopped_by_guard);
  const std::vector<int64_t> steps = list_steps(path("a"));
  ASSERT_EQ(steps, std::vector<int64_t>{1});  // skipped steps write no checkpoint
  EXPECT_TRUE(verify(checkpoint_dir(path("a"), 1)).empty());
  const MetricsTable metrics = read_metrics(path("a") / "metrics.jsonl");
  EXPECT_EQ(metrics.column("skipped").back(), 4.0);
}

TEST_F(Guard, ASkippedStepChangesNothingAndTheRunGoesOn) {
  const Experiment e = experiment("a");
  const auto ops = make_ops({"cpu", 2});
  const auto comm = make_single_communicator();
  Trainer trainer(e, *ops, *comm);
  trainer.initialize();
  trainer.start();
  const auto never = [] { return false; };
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(trainer.step(never)->applied);
  auto* weights = trainer.plan().model.parameters().as<float>();
  const std::vector<float> before(weights, weights + trainer.plan().model.registry().flat_count());

  weights[trainer.plan().model.registry()[0].offset + 40] = std::numeric_limits<float>::quiet_NaN();
  // That row belongs to one token; with the final norm poisoned as well every token meets it.
  const int norm = trainer.plan().model.registry().find("model.norm.weight");
  weights[trainer.plan().model.registry()[norm].offset] = std::numeric_limits<float>::infinity();
  const std::vector<float> poisoned(weights, weights + trainer.plan().model.registry().flat_count());
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

TEST_F(Guard, AnInterruptedStepChangesNothing) {
  const Experiment e = experiment("a");
  const auto ops = make_ops({"cpu", 2});
  const auto comm = make_single_communicator();
  Trainer trainer(e, *ops, *comm);
  trainer.initialize();
  trainer.start();
  const auto* weights = trainer.plan().model.parameters().as<float>();
  const std::vector<float> before(weights, weights + trainer.plan().model.registry().flat_count());
  int asked = 0;
  EXPECT_FALSE(trainer.step([&] { return asked++ == 1; }));
  EXPECT_TRUE(std::equal(before.begin(), before.end(), weights));
  EXPECT_EQ(trainer.progress().step, 0);
}

}  // namespace
}  // namespace polar::test
