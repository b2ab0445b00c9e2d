// What signals, restarts and other numbers of ranks do to a run.
#include <gmock/gmock.h>

#include "comm/ranks.h"
#include "launch/launching.h"
#include "process.h"
#include "train/fixture.h"
#include "train/signals.h"

namespace polar::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

TEST(Signals, TheSameAgainAtOnceIsTheSameRequest) {
  EXPECT_EQ(in_child([] {
              const SignalGuard guard;
              for (int i = 0; i < 3; ++i) raise(SIGTERM);
              return SignalGuard::received() == SIGTERM ? 0 : 1;
            }),
            0);
}

TEST(Signals, ASecondRequestEndsTheProcess) {
  EXPECT_EQ(in_child([] {
              const SignalGuard guard;
              raise(SIGTERM);
              std::this_thread::sleep_for(1100ms);
              raise(SIGTERM);
              return 0;
            }),
            128 + SIGTERM);
  EXPECT_EQ(in_child([] {  // as Ctrl-C after a SIGTERM
              const SignalGuard guard;
              raise(SIGTERM);
              raise(SIGINT);
              return 0;
            }),
            128 + SIGINT);
}

TEST(Signals, AllFour) {
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT})
    EXPECT_EQ(in_child([=] {
                const SignalGuard guard;
                if (SignalGuard::received() != 0) return 1;
                raise(number);
                return SignalGuard::received() == number ? 0 : 2;
              }),
              0);
}

TEST(Signals, OldHandlersComeBackUnlessTheProcessIsAboutToEnd) {
  EXPECT_EQ(in_child([] {
              signal(SIGQUIT, SIG_IGN);
              { const SignalGuard guard; }
              raise(SIGQUIT);  // ignored again
              {
                const SignalGuard guard;
                raise(SIGTERM);
              }
              raise(SIGTERM);  // come on another way
              return 0;
            }),
            0);
}

TEST(Signals, WhatNohupIgnoresStaysIgnored) {
  EXPECT_EQ(in_child([] {
              signal(SIGHUP, SIG_IGN);
              const SignalGuard guard;
              raise(SIGHUP);
              return SignalGuard::received();
            }),
            0);
}

class Interruption : public TinyRun {
 protected:
  std::vector<std::string> training(const std::string& run, const std::vector<std::string>& more) const {
    std::vector<std::string> words{"train",
                                   path("config.yaml").string(),
                                   "run.dir=" + path(run).string(),
                                   "run.device=cpu",
                                   "run.threads=1",
                                   "batch.global_tokens=384",
                                   "batch.micro_sequences=1",
                                   "evaluation.every_steps=0",
                                   "checkpoint.every_steps=4",
                                   "optimizer.groups.0.type=polargrad"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  std::vector<std::string> command(const std::vector<std::string>& before, const std::string& run,
                                   const std::vector<std::string>& more) const {
    std::vector<std::string> words = before;
    words.push_back(POLAR_BINARY);
    for (const std::string& word : training(run, more)) words.push_back(word);
    return words;
  }
  launch::Launched launch_ranks(int ranks, const std::string& run,
                                const std::vector<std::string>& more) const {
    std::vector<std::string> words{"--nproc-per-node", std::to_string(ranks)};
    for (const std::string& word : training(run, more)) words.push_back(word);
    return launch::launch(words);
  }
  std::vector<double> losses(const std::string& run) const {
    return read_metrics(path(run) / "metrics.jsonl").column("loss");
  }
};

// As srun's processes get it, from srun and from the batch system at once.
TEST_F(Interruption, ATwofoldSigtermSaves) {
  Process process(command({}, "run", {"train.max_steps=100000"}));
  ASSERT_TRUE(process.wait_for([&] { return std::filesystem::exists(checkpoint_dir(path("run"), 4)); }));
  process.send(SIGTERM);
  std::this_thread::sleep_for(5ms);
  process.send(SIGTERM);
  EXPECT_EQ(process.wait(), 3) << process.output();
  EXPECT_THAT(process.output(), HasSubstr("signal 15: saving step"));
}

TEST_F(Interruption, SighupSaves) {
  Process process(command({}, "run", {"train.max_steps=100000"}));
  ASSERT_TRUE(process.wait_for([&] { return std::filesystem::exists(checkpoint_dir(path("run"), 4)); }));
  process.send(SIGHUP);
  EXPECT_EQ(process.wait(), 3) << process.output();
  EXPECT_THAT(process.output(), HasSubstr("signal 1: saving step"));
}

// torchrun calls all its runs "none" unless it is told otherwise.
TEST_F(Interruption, FreshIsForTheFirstAttemptOfThisTorchrunOnly) {
  const auto attempt = [&](const std::string& agent, int restarts) {
    std::vector<std::string> before{"/usr/bin/env", "RANK=0", "WORLD_SIZE=1", "TORCHELASTIC_RUN_ID=none",
                                    "TORCHELASTIC_RESTART_COUNT=" + std::to_string(restarts)};
    if (!agent.empty())
      before.push_back("TORCHELASTIC_ERROR_FILE=/tmp/" + agent + "/attempt_" + std::to_string(restarts) +
                       "/0/error.json");
    const Finished finished = run_process(command(before, "run", {"train.max_steps=4", "--fresh"}));
    EXPECT_EQ(finished.code, 0) << finished.output;
    return finished.output;
  };
  const auto aside = [&](int count) {
    return std::filesystem::exists(path("run.old-" + std::to_string(count)));
  };
  attempt("none_a", 0);
  EXPECT_THAT(attempt("none_a", 1), HasSubstr("continuing from"));
  EXPECT_FALSE(aside(1));
  // Another torchrun, whose first attempt has not come as far as the run's directory.
  EXPECT_THAT(attempt("none_b", 1), Not(HasSubstr("continuing from")));
  EXPECT_TRUE(aside(1));
  // Where it says no more of itself: by the process that has started this one, here the test.
  attempt("", 0);
  EXPECT_TRUE(aside(2));
  EXPECT_THAT(attempt("", 1), HasSubstr("continuing from"));
  EXPECT_FALSE(aside(3));
}

// One rank saves every tensor whole; several read their ranges of it.
TEST_F(Interruption, WhatOneRankSavedSeveralContinue) {
  const std::vector<std::string> to_the_end{"train.max_steps=12", "log.every_steps=1"};
  ASSERT_EQ(run_process(command({}, "one", to_the_end)).code, 0);
  std::filesystem::remove_all(checkpoint_dir(path("one"), 12));
  for (const int ranks : {2, 3}) {
    const std::string run = "on-" + std::to_string(ranks);
    std::filesystem::copy(path("one"), path(run), std::filesystem::copy_options::recursive);
    const launch::Launched several = launch_ranks(ranks, run, to_the_end);
    EXPECT_EQ(several.code, 0) << several.output;
    EXPECT_THAT(several.output, HasSubstr("step-00000008"));
    const std::vector<double> want = losses("one"), got = losses(run);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i] / want[i], 1.0, 1e-5) << ranks << ", " << i;
  }
}

}  // namespace
}  // namespace polar::test
