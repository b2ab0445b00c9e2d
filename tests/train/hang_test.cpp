// A worker that hangs in a run of several ranks: who, where and for how long is said, the run ends with an
// exit code of its own, and goes on from its last checkpoint.
#include <gmock/gmock.h>

#include "comm/ranks.h"
#include "launch/launching.h"
#include "process.h"
#include "train/fixture.h"

namespace polar::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

constexpr int kHung = static_cast<int>(ExitCode::hung);

class Hang : public TinyRun {
 protected:
  std::vector<std::string> training(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"train",
                                   path("config.yaml").string(),
                                   "run.dir=" + path("run").string(),
                                   "run.device=cpu",
                                   "run.threads=1",
                                   "batch.global_tokens=384",
                                   "batch.micro_sequences=1",
                                   "train.max_steps=100000",
                                   "checkpoint.every_steps=4",
                                   "evaluation.every_steps=0",
                                   "distributed.timeout_seconds=2"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  // Waits for a checkpoint and some heartbeats after it.
  bool trains() const {
    const bool saved =
        launch::eventually([&] { return std::filesystem::exists(checkpoint_dir(path("run"), 8)); }, 60);
    std::this_thread::sleep_for(std::chrono::seconds(1));
    return saved;
  }
  // What is said of the one that was stopped, and of the other.
  static void expect_report(const std::string& output, int stopped) {
    const std::string one = std::to_string(stopped), other = std::to_string(1 - stopped);
    EXPECT_THAT(
        output,
        MatchesRegex("(.|\n)*rank " + one +
                     " \\([^)]*, process [0-9]+\\) is behind: no sign of life for [1-9][.0-9]* s; last "
                     "seen in step [0-9]+, [a-z ]+, for (.|\n)*"));
    EXPECT_THAT(output,
                MatchesRegex("(.|\n)*\n[^\n]*  rank " + other + " \\([^)]*\\): step [0-9]+, (.|\n)*"));
  }
};

TEST_F(Hang, UnderTheLauncher) {
  std::vector<std::string> words{"--nproc-per-node", "2", "--grace-period", "2"};
  const std::vector<std::string> command = training();
  words.insert(words.end(), command.begin(), command.end());
  launch::Launcher launcher(words);
  ASSERT_TRUE(trains()) << launcher.output();
  const std::vector<pid_t> workers = launcher.processes("RANK=1");
  ASSERT_EQ(workers.size(), 1u) << launcher.output();
  kill(workers[0], SIGSTOP);
  EXPECT_EQ(launcher.wait(), kHung) << launcher.output();
  expect_report(launcher.output(), 1);
  EXPECT_THAT(launcher.output(),
              AllOf(HasSubstr("first failure: rank 0 ("),
                    HasSubstr("exit code 5 (the group hung; which rank, and where, is in ")));
  EXPECT_TRUE(launcher.all_gone(0));

  // And once more with a restart, in which the run goes on, until it is told to stop.
  words.insert(words.begin(), {"--max-restarts", "1"});
  launch::Launcher again(words);
  ASSERT_TRUE(again.says("continuing from")) << again.output();
  std::this_thread::sleep_for(std::chrono::seconds(1));
  const std::vector<pid_t> stopped = again.processes("RANK=0");  // with the run's store in it
  ASSERT_EQ(stopped.size(), 1u) << again.output();
  kill(stopped[0], SIGSTOP);
  ASSERT_TRUE(again.says("restart 1 of 1")) << again.output();
  expect_report(again.output(), 0);
  ASSERT_TRUE(
      launch::eventually([&] { return again.processes("TORCHELASTIC_RESTART_COUNT=1").size() == 2; }));
  again.send(SIGTERM);
  again.wait();
  EXPECT_TRUE(again.all_gone(0));
}

// As torchrun or srun starts them: nobody kills the one that hangs, and its peers end all the same.
TEST_F(Hang, WithoutALauncherOfOurs) {
  const std::string port = std::to_string(free_port());
  std::vector<std::unique_ptr<Process>> processes;
  for (const std::string rank : {"0", "1"}) {
    std::vector<std::string> words{"/usr/bin/env",
                                   "-u",
                                   "RANK",
                                   "SLURM_PROCID=" + rank,
                                   "SLURM_LOCALID=" + rank,
                                   "SLURM_NTASKS=2",
                                   "SLURM_JOB_ID=7",
                                   "SLURM_STEP_ID=0",
                                   "MASTER_ADDR=127.0.0.1",
                                   "MASTER_PORT=" + port,
                                   POLAR_BINARY};
    const std::vector<std::string> command = training();
    words.insert(words.end(), command.begin(), command.end());
    processes.push_back(std::make_unique<Process>(words));
  }
  ASSERT_TRUE(trains()) << processes[0]->output() << processes[1]->output();
  processes[1]->send(SIGSTOP);
  EXPECT_EQ(processes[0]->wait(), kHung) << processes[0]->output();
  expect_report(processes[0]->output(), 1);
  // Should the one go on that was stopped, it ends too.
  processes[1]->send(SIGCONT);
  EXPECT_NE(processes[1]->wait(), 0) << processes[1]->output();
}

}  // namespace
}  // namespace polar::test
