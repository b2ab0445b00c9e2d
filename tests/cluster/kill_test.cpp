// A worker that is killed, wherever it was, costs the steps since the last checkpoint and nothing else.
#include "training.h"

namespace polar::test {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

struct Kill {
  const char* place;
  int rank;
  int64_t step;
};
void PrintTo(const Kill& kill, std::ostream* out) {
  *out << kill.place << " on rank " << kill.rank;
}

// The checkpoint of step 6 is written while step 8 is computed at the latest: in none of these cases it is
// complete.
class Killed : public ClusterTraining, public testing::WithParamInterface<Kill> {
 protected:
  std::string fault() const {
    return fmt::format("kill {} {} {}", GetParam().rank, GetParam().place, GetParam().step);
  }
  // What the launcher has to say of it. The others end by themselves, within the grace period.
  void expect_report(const std::string& output) const {
    EXPECT_THAT(output, AllOf(HasSubstr(fmt::format("[{}] fault: kill at {} of step {}", GetParam().rank,
                                                    GetParam().place, GetParam().step)),
                              ContainsRegex(fmt::format("first failure: rank {0} \\(local rank {0}, node 0, "
                                                        "host .+, pid [0-9]+\\): signal 9 \\(SIGKILL\\)",
                                                        GetParam().rank)),
                              Not(HasSubstr("SIGKILL to"))));
  }
};

TEST_P(Killed, GoesOnFromTheLastCheckpointWithTheSameBits) {
  run_undisturbed(2);
  const auto launcher = start(
      launching({"--nproc-per-node", "2", "--max-restarts", "1", "--grace-period", "20"}, "run"), fault());
  expect_end(*launcher, 0);
  expect_report(launcher->output());
  EXPECT_THAT(launcher->output(), AllOf(HasSubstr("[launch] restart 1 of 1"),
                                        HasSubstr("[0] continuing from " + checkpoint("run", 4) + "\n")));
  expect_the_undisturbed_result("run");
}

INSTANTIATE_TEST_SUITE_P(In, Killed,
                         testing::Values(Kill{"forward", 1, 7}, Kill{"backward", 0, 7}, Kill{"reduce", 1, 7},
                                         Kill{"gather", 0, 7}, Kill{"write", 0, 6}, Kill{"write", 1, 6},
                                         Kill{"note", 1, 6}, Kill{"publish", 0, 6}),
                         [](const auto& test) {
                           return fmt::format("{}_rank{}", test.param.place, test.param.rank);
                         });

using KilledForGood = Killed;

// Without restarts the launcher ends as the worker did; the same command goes on later.
TEST_P(KilledForGood, IsStartedAgainByHand) {
  run_undisturbed(2);
  const Words arguments = launching({"--nproc-per-node", "2", "--grace-period", "20"}, "run");
  const auto launcher = start(arguments, fault());
  expect_end(*launcher, 128 + SIGKILL);
  expect_report(launcher->output());
  EXPECT_EQ(checkpoints("run"), (std::vector<int64_t>{2, 4}));
  const auto again = start(arguments);
  expect_end(*again, 0);
  EXPECT_THAT(again->output(), HasSubstr("[0] continuing from " + checkpoint("run", 4) + "\n"));
  expect_the_undisturbed_result("run");
}

INSTANTIATE_TEST_SUITE_P(In, KilledForGood, testing::Values(Kill{"backward", 1, 7}),
                         [](const auto& test) { return std::string(test.param.place); });

// Signals that end a run: to the launcher, or to one of the workers.
class Signalled : public ClusterTraining {
 protected:
  // Rank 1 waits in step 7 until go() is called.
  std::unique_ptr<Launcher> start_until_step_7() {
    auto launcher = start(launching({"--nproc-per-node", "2", "--max-restarts", "1"}, "run"),
                          "wait=" + path("go").string() + " 1 forward 7");
    EXPECT_TRUE(launcher->says("[1] fault: wait")) << launcher->output();
    return launcher;
  }
  void go() { put(path("go"), ""); }
  // All ranks have saved step 7, which they were in, and the run goes on from there.
  void expect_saved(Launcher& launcher) {
    expect_end(launcher, 3);
    EXPECT_THAT(launcher.output(),
                AllOf(HasSubstr("saving step 7 and stopping"), Not(HasSubstr("restart 1 of 1"))));
    EXPECT_EQ(checkpoints("run").back(), 7);
    const auto again = start(launching({"--nproc-per-node", "2"}, "run"));
    expect_end(*again, 0);
    EXPECT_THAT(again->output(), HasSubstr("[0] continuing from " + checkpoint("run", 7) + "\n"));
    expect_the_undisturbed_result("run");
  }
};

TEST_F(Signalled, LauncherSavesAndTheRunGoesOn) {
  run_undisturbed(2);
  for (const int signal : {SIGTERM, SIGINT}) {
    SCOPED_TRACE(signal);
    const auto launcher = start_until_step_7();
    launcher->send(signal);
    EXPECT_TRUE(launcher->says("passed on to the workers"));
    go();
    expect_saved(*launcher);
    EXPECT_THAT(launcher->output(), HasSubstr(fmt::format("[0] signal {}: saving", signal)));
    std::filesystem::remove_all(path("run"));
    std::filesystem::remove(path("go"));
  }
}

TEST_F(Signalled, OneWorkerSavesWithTheOthers) {
  run_undisturbed(2);
  const auto launcher = start_until_step_7();
  kill(launcher->processes("RANK=1").at(0), SIGTERM);
  go();
  expect_saved(*launcher);
  EXPECT_THAT(launcher->output(), HasSubstr("[0] another rank was told to stop: saving"));
}

}  // namespace
}  // namespace polar::test
