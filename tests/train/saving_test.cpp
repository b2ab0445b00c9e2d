// Saves that fail in the middle of a run: the run goes on, the checkpoint before stands, the end is honest.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>

#include "fixture.h"
#include "train/run.h"

namespace polar::test {
namespace {

class Saving : public TinyRun {
 protected:
  ~Saving() override { set_file_fault({}); }

  // Every write into a checkpoint of a step in [first, last] fails as on a full disk.
  static void fail_saves(int64_t first, int64_t last) {
    set_file_fault([=](std::string_view operation, const std::filesystem::path& file) {
      const std::string name = file.string();
      const size_t at = name.find("step-");
      if (operation != "write" || at == std::string::npos) return;
      const int64_t step = std::stoll(name.substr(at + 5, 8));
      if (step >= first && step <= last) fail("cannot write {}: No space left on device", name);
    });
  }
};

TEST_F(Saving, AFullDiskForAWhileCostsOneCheckpointOnly) {
  ASSERT_EQ(train(experiment("undisturbed"), {}), ExitCode::done);
  for (const char* background : {"true", "false"}) {
    const std::string run = std::string("disturbed-") + background;
    fail_saves(15, 25);
    EXPECT_EQ(train(experiment(run, {"checkpoint.every_steps=10",
                                     std::string("checkpoint.background=") + background}),
                    {}),
              ExitCode::done);
    EXPECT_EQ(list_steps(path(run)), (std::vector<int64_t>{10, 30, 40}));
    EXPECT_EQ(state_of(run, 40), state_of("undisturbed", 40));
  }
}

TEST_F(Saving, ALastSaveThatFailsIsAFailureAndTheOneBeforeStands) {
  fail_saves(40, 40);
  EXPECT_THROW(train(experiment("a"), {}), Error);
  set_file_fault({});
  EXPECT_EQ(list_steps(path("a")), std::vector<int64_t>{20});
  EXPECT_EQ(train(experiment("a"), {}), ExitCode::done);  // goes on from step 20
  ASSERT_EQ(train(experiment("undisturbed"), {}), ExitCode::done);
  EXPECT_EQ(state_of("a", 40), state_of("undisturbed", 40));
}

// The process is stopped while its last saves have failed: it must not say that it saved.
TEST_F(Saving, ASignalAfterAFailedSaveIsNotAnOrderlyStop) {
  fail_saves(0, 40);
  const Experiment e = experiment("a", {"checkpoint.every_steps=1"});
  std::thread signal([&] {
    while (!std::filesystem::exists(path("a") / "metrics.jsonl") ||
           std::filesystem::file_size(path("a") / "metrics.jsonl") < 300)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    kill(getpid(), SIGTERM);
  });
  EXPECT_THROW(train(e, {}), Error);
  signal.join();
  EXPECT_TRUE(list_steps(path("a")).empty());
}

TEST_F(Saving, TheBestCheckpointIsKeptAndAFailedSaveDoesNotTakeItsPlace) {
  const std::vector<std::string> overrides{"checkpoint.every_steps=40", "checkpoint.keep_best=true",
                                           "checkpoint.keep_last=1", "evaluation.every_steps=10"};
  fail_saves(15, 35);
  EXPECT_EQ(train(experiment("a", overrides), {}), ExitCode::done);
  set_file_fault({});
  // The loss falls all the time: the best is step 40; those in between failed, and step 10 was the best until
  // then.
  EXPECT_EQ(list_steps(path("a")), std::vector<int64_t>{40});
  EXPECT_EQ(read_state(checkpoint_dir(path("a"), 40)).at("best_step").get<int64_t>(), 40);
}

TEST_F(Saving, ABrokenNewestCheckpointIsNamedAndTheOneBeforeContinues) {
  ASSERT_EQ(train(experiment("undisturbed"), {}), ExitCode::done);
  ASSERT_EQ(train(experiment("a"), {}), ExitCode::done);
  std::filesystem::resize_file(checkpoint_dir(path("a"), 40) / "optimizer.safetensors", 100);
  EXPECT_EQ(train(experiment("a"), {}), ExitCode::done);
  EXPECT_EQ(state_of("a", 40), state_of("undisturbed", 40));
  EXPECT_EQ(metrics_of("a"), metrics_of("undisturbed"));
  EXPECT_NE(read_file(path("a") / "log.txt").find("step-00000020"), std::string::npos);
}

}  // namespace
}  // namespace polar::test
