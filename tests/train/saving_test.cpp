// Saves that fail in the middle of a run: the run goes on, the checkpoint before stands, the end is honest.
#include <string>

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
