// The ends that a launcher can come to: by signals, by force, with helpers left behind. Nobody survives it.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "launching.h"

namespace polar::launch {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// A worker that has a child in its group, and one in a session of its own that ignores what it can.
constexpr const char* kWithHelpers =
    "sleep 300 & setsid sh -c 'trap \"\" TERM HUP INT; while :; do sleep 300; done' & echo started; wait";

class Ends : public testing::Test {
 protected:
  static void expect_helpers(const Launcher& launcher) {
    ASSERT_TRUE(launcher.says("[0] started") && launcher.says("[1] started")) << launcher.output();
    ASSERT_TRUE(eventually([&] { return launcher.processes("RANK=1").size() >= 4; }));
  }
};

TEST_F(Ends, KillOfTheLauncherLeavesNobody) {
  Launcher launcher(with_script({"--nproc-per-node", "2"}, kWithHelpers));
  expect_helpers(launcher);
  launcher.send(SIGKILL);
  EXPECT_EQ(launcher.wait(), 128 + SIGKILL);
  EXPECT_TRUE(launcher.all_gone());
}

TEST_F(Ends, KillOfTheInnerProcessLeavesNobody) {
  Launcher launcher(with_script({"--nproc-per-node", "2"}, kWithHelpers));
  expect_helpers(launcher);
  ASSERT_GT(launcher.inner(), 1);
  kill(launcher.inner(), SIGKILL);
  EXPECT_EQ(launcher.wait(), 128 + SIGKILL);
  EXPECT_TRUE(launcher.all_gone(0));
  EXPECT_THAT(launcher.output(), HasSubstr("inner process was ended by SIGKILL: the workers are killed"));
}

TEST_F(Ends, FailureLeavesNobody) {
  Launcher launcher(with_script({"--nproc-per-node", "2", "--grace-period", "1"}, kWithHelpers));
  expect_helpers(launcher);
  kill(launcher.processes("RANK=1").front(), SIGKILL);
  const int code = launcher.wait();
  EXPECT_NE(code, 0);
  EXPECT_TRUE(launcher.all_gone(0)) << launcher.output();
}

TEST_F(Ends, SuccessEndsWhatWorkersLeftBehind) {
  Launcher launcher(with_script({}, "setsid sleep 300 & sleep 0.1"));
  EXPECT_EQ(launcher.wait(), 0) << launcher.output();
  EXPECT_TRUE(launcher.all_gone(0));
}

// Nobody reads the launcher's output, its queue is full, its workers wait: it still has to see its end.
TEST_F(Ends, WithAReaderThatDoesNotRead) {
  const test::TemporaryDirectory directory;
  const std::string fifo = directory / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const int reader = open(fifo.c_str(), O_RDWR | O_CLOEXEC);
  for (const int signal : {SIGTERM, SIGKILL}) {
    Launcher launcher(with_script({"--nproc-per-node", "2"}, "yes some text"), {}, fifo);
    ASSERT_TRUE(eventually([&] { return launcher.processes("RANK=1").size() >= 2; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    launcher.send(signal);
    EXPECT_EQ(launcher.wait(), 128 + signal);
    EXPECT_TRUE(launcher.all_gone());
  }
  close(reader);
}

class Passed : public testing::TestWithParam<int> {};

TEST_P(Passed, SignalReachesTheWorkersWhichSaveAndStop) {
  Launcher launcher(
      with_script({"--nproc-per-node", "2", "--max-restarts", "3"},
                  "trap 'echo saved; exit 3' TERM INT HUP QUIT; echo ready; while :; do sleep 0.05; done"));
  ASSERT_TRUE(launcher.says("[0] ready") && launcher.says("[1] ready")) << launcher.output();
  launcher.send(GetParam());
  EXPECT_EQ(launcher.wait(), 3) << launcher.output();
  EXPECT_THAT(launcher.output(),
              AllOf(HasSubstr("[0] saved"), HasSubstr("[1] saved"), Not(HasSubstr("restart"))));
  EXPECT_TRUE(launcher.all_gone(0));
}

INSTANTIATE_TEST_SUITE_P(Signals, Passed, testing::Values(SIGTERM, SIGINT, SIGHUP, SIGQUIT));

TEST(Signals, WorkersWithoutAHandlerDieOfThem) {
  Launcher launcher(with_script({"--nproc-per-node", "2"}, "echo ready; sleep 60"));
  ASSERT_TRUE(launcher.says("[0] ready") && launcher.says("[1] ready"));
  launcher.send(SIGTERM);
  EXPECT_EQ(launcher.wait(), 128 + SIGTERM) << launcher.output();
  EXPECT_TRUE(launcher.all_gone(0));
}

TEST(Signals, GraceThenKill) {
  Launcher launcher(with_script({"--nproc-per-node", "2", "--grace-period", "0.4"},
                                "test $RANK = 0 && trap '' TERM; echo ready; while :; do sleep 0.05; done"));
  ASSERT_TRUE(launcher.says("[0] ready") && launcher.says("[1] ready"));
  launcher.send(SIGTERM);
  EXPECT_EQ(launcher.wait(), 128 + SIGKILL) << launcher.output();
  EXPECT_THAT(launcher.output(), HasSubstr("0.4 s are over, SIGKILL to rank 0 "));
  EXPECT_THAT(launcher.output(), Not(HasSubstr("SIGKILL to rank 1")));
  EXPECT_TRUE(launcher.all_gone(0));
}

TEST(Signals, SecondOneIsPassedOnToo) {
  Launcher launcher(with_script({},
                                "n=0; trap 'n=$((n+1)); echo signal $n; test $n = 2 && exit 3' TERM; "
                                "echo ready; while :; do sleep 0.05; done"));
  ASSERT_TRUE(launcher.says("[0] ready"));
  launcher.send(SIGTERM);
  ASSERT_TRUE(launcher.says("[0] signal 1"));
  launcher.send(SIGTERM);
  EXPECT_EQ(launcher.wait(), 3) << launcher.output();
}

TEST(Signals, OnlyThoseToHandle) {
  Launcher launcher(with_script({"--signals-to-handle", "USR1"},
                                "trap 'echo got it; exit 0' USR1; echo ready; while :; do sleep 0.05; done"));
  ASSERT_TRUE(launcher.says("[0] ready"));
  launcher.send(SIGUSR1);
  EXPECT_EQ(launcher.wait(), 0);
  EXPECT_THAT(launcher.output(), HasSubstr("[0] got it"));
  Launcher other(with_script({"--signals-to-handle", "USR1"}, "echo ready; sleep 60"));
  ASSERT_TRUE(other.says("[0] ready"));
  other.send(SIGTERM);  // not handled: the launcher dies of it, and with it the workers
  EXPECT_EQ(other.wait(), 128 + SIGTERM);
  EXPECT_TRUE(other.all_gone());
}

}  // namespace
}  // namespace polar::launch
