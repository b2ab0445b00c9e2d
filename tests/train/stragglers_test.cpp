// Which rank the others wait for, and what that costs them.
#include "train/stragglers.h"

#include <gmock/gmock.h>

#include "comm/ranks.h"
#include "launch/launching.h"
#include "train/fixture.h"

namespace polar::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

TEST(Stragglers, TheSlowestAgainstTheMedian) {
  const SlowestRank slowest = slowest_of({0.30, 0.35, 0.36, 0.412, 0.33}, 0.5);
  EXPECT_EQ(slowest.rank, 3);
  EXPECT_DOUBLE_EQ(slowest.seconds, 0.412);
  EXPECT_DOUBLE_EQ(slowest.median_seconds, 0.35);
  EXPECT_DOUBLE_EQ(slowest.share, (0.412 - 0.35) / 0.5);
  EXPECT_DOUBLE_EQ(slowest_of({0.2, 0.1}, 0.2).share, 0.5);  // of two: against the faster one
  EXPECT_DOUBLE_EQ(slowest_of({0.2, 0.2, 0.2}, 0.2).share, 0.0);
  EXPECT_DOUBLE_EQ(slowest_of({0.2, 0.1}, 0.0).share, 0.0);
}

TEST(Stragglers, TheOneThatComputesLongerIsNamed) {
  const uint16_t port = free_port();
  Ranks processes(3, [&](int rank) {
    const auto ops = make_ops({"cpu", 1});
    const auto comm = make_communicator(local_group(rank, 3, port), {.timeout = 30s}, *ops);
    std::vector<float> values(1000);
    const auto done = comm->make_mark();
    Stragglers stragglers(*comm, 100, 0.3);
    const auto steps = [&](int count) {
      for (int i = 0; i < count; ++i) {
        std::this_thread::sleep_for(rank == 1 ? 60ms : 20ms);
        comm->all_reduce_sum({values.data(), DType::f32, {1000}}, "loss", *done);
        done->wait();
      }
    };
    steps(2);
    stragglers.pause();
    EXPECT_FALSE(stragglers.look(102)) << "in less than a second";
    std::this_thread::sleep_for(rank == 0 ? 500ms : 0ms);  // an evaluation, of which nothing counts
    comm->barrier();
    stragglers.resume();
    steps(18);
    stragglers.pause();
    const std::optional<SlowestRank> slowest = stragglers.look(120);
    ASSERT_TRUE(slowest);
    EXPECT_EQ(slowest->rank, 1);
    EXPECT_GE(slowest->seconds, 0.060);
    EXPECT_GE(slowest->median_seconds, 0.020);
    EXPECT_LT(slowest->median_seconds, 0.055);
    EXPECT_GT(slowest->share, 0.3);
    EXPECT_LT(slowest->share, 0.7);
    EXPECT_FALSE(stragglers.look(120)) << "no step since";
  });
  processes.expect_all_good();
  EXPECT_THAT(processes.output(0),
              MatchesRegex("(.|\n)*warning: rank 1 \\([^)]+\\) is slow: its step takes [0-9.]+ ms "
                           "where the median is [0-9.]+ ms; the group waits [0-9]+ % of the step "
                           "for it(.|\n)*"));
  for (const int rank : {1, 2}) EXPECT_THAT(processes.output(rank), Not(HasSubstr("slow")));
}

class SlowTraining : public TinyRun {};

// A worker that gets a part of its time only: it is stopped and goes on, again and again. Its steps are long
// beside what the ranks tell each other: when it is stopped it mostly computes.
TEST_F(SlowTraining, IsLoggedAndInTheMetrics) {
  launch::Launcher launcher(
      {"--nproc-per-node", "2", "train", path("config.yaml").string(), "run.dir=" + path("run").string(),
       "run.device=cpu", "run.threads=1", "model.hidden_size=128", "model.intermediate_size=256",
       "batch.global_tokens=1536", "batch.micro_sequences=6", "train.max_steps=100000",
       "evaluation.every_steps=0", "log.every_steps=5", "distributed.slow_rank_share=0.2"});
  ASSERT_TRUE(launcher.says(" 5/100000", 60)) << launcher.output();
  const std::vector<pid_t> workers = launcher.processes("RANK=1");
  ASSERT_EQ(workers.size(), 1u);
  const auto end = std::chrono::steady_clock::now() + 60s;
  while (launcher.output().find("rank 1 (") == std::string::npos && std::chrono::steady_clock::now() < end) {
    kill(workers[0], SIGSTOP);
    std::this_thread::sleep_for(100ms);
    kill(workers[0], SIGCONT);
    std::this_thread::sleep_for(30ms);
  }
  EXPECT_THAT(launcher.output(), HasSubstr(") is slow: its step takes "));
  launcher.send(SIGTERM);
  EXPECT_EQ(launcher.wait(), 3) << launcher.output();
  EXPECT_TRUE(launcher.all_gone(0));

  const MetricsTable table = read_metrics(path("run") / "metrics.jsonl");
  const std::vector<double> ranks = table.column("slowest_rank"), shares = table.column("slowest_rank_share");
  const std::vector<double> waits = table.column("wait_share");  // of rank 0, for rank 1
  bool found = false;
  for (size_t i = 0; i < ranks.size(); ++i)
    found = found || (ranks[i] == 1.0 && shares[i] > 0.2 && waits[i] > 0.2);
  EXPECT_TRUE(found);
}

}  // namespace
}  // namespace polar::test
