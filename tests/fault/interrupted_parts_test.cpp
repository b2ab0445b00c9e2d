// Saving by two processes, of which one is interrupted at every single operation that changes the disk: by an
// error, and by its death. The checkpoint before it stands, nobody takes what there is for a checkpoint, and
// the same step can be saved afterwards.
#include <unistd.h>

#include <fstream>

#include "base/file.h"
#include "checkpoint/sample.h"
#include "checkpoint/store.h"
#include "process.h"
#include "temporary.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;

constexpr int kFailed = 1, kDied = 9;

class InterruptedParts : public ::testing::TestWithParam<int> {
 protected:
  // Every tensor is written by one of them.
  CheckpointContent part(int rank, const std::string& token, double timeout) const {
    const CheckpointContent& whole = saved_.content();
    CheckpointContent own = whole;
    own.part = {.rank = rank, .world_size = 2, .token = token, .timeout_seconds = timeout};
    if (rank == 0) own.model.clear();
    own.optimizer = {whole.optimizer[static_cast<size_t>(rank)]};
    return own;
  }
  // Starts the save of one rank; before its operation `strike` it fails, or dies.
  pid_t start(const fs::path& run, int rank, const std::string& token, double timeout, int strike = -1,
              bool dies = false) const {
    const pid_t child = fork();
    if (child != 0) return child;
    int seen = 0;
    set_file_fault([&](std::string_view what, const fs::path& path) {
      if (seen++ != strike) return;
      if (!dies) fail("cannot {} {}: No space left on device", what, path.string());
      if (what == "write") std::ofstream(path, std::ios::binary | std::ios::app) << "torn";
      _exit(kDied);
    });
    try {
      save_checkpoint(run, 2, part(rank, token, timeout));
    } catch (const std::exception&) {
      _exit(kFailed);
    }
    _exit(strike < 0 ? 0 : 100 + seen);  // not struck: it has so many operations
  }
  static int wait_for(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
  }
  int count_operations(int rank) const {
    const TemporaryDirectory run;
    save_checkpoint(run.path(), 1, before_.content());
    const pid_t other = start(run.path(), 1 - rank, "count", 30),
                counted = start(run.path(), rank, "count", 30, 10'000);
    EXPECT_EQ(wait_for(other), 0);
    return wait_for(counted) - 100;
  }

  // The checkpoint of step 1 stands, that of step 2 is whole if it is there, and can be saved (again).
  void expect_sound(const fs::path& run, bool starts_again) const {
    before_.expect_in(checkpoint_dir(run, 1));
    const auto found = latest_valid(run);
    ASSERT_TRUE(found);
    if (found->step == 2) saved_.expect_in(found->dir);
    if (starts_again) {
      recover(run);
      for (const auto& entry : fs::directory_iterator(checkpoints_dir(run)))
        EXPECT_FALSE(entry.path().filename().string().starts_with('.')) << entry.path();
    }
    const pid_t first = start(run, 0, "again", 30), second = start(run, 1, "again", 30);
    EXPECT_EQ(wait_for(first), 0);
    EXPECT_EQ(wait_for(second), 0);
    saved_.expect_in(checkpoint_dir(run, 2));
    EXPECT_TRUE(recover(run).empty());
  }
  void interrupt_everywhere(bool dies) const {
    const int rank = GetParam(), count = count_operations(rank);
    ASSERT_GT(count, 8);  // three files, each created, written and flushed
    for (int k = 0; k < count; ++k) {
      SCOPED_TRACE(k);
      const TemporaryDirectory run;
      save_checkpoint(run.path(), 1, before_.content());
      // Rank 0 need not wait long for what does not come; where it is struck itself, the other does deliver.
      const pid_t struck = start(run.path(), rank, "first", rank == 0 ? 20.0 : 0.3, k, dies),
                  other = start(run.path(), 1 - rank, "first", 0.3);
      EXPECT_EQ(wait_for(struck), dies ? kDied : kFailed);
      EXPECT_EQ(wait_for(other), rank == 0 ? 0 : kFailed);
      if (rank == 1) {
        EXPECT_EQ(list_steps(run.path()), std::vector<int64_t>{1});
      }
      expect_sound(run.path(), dies);
    }
  }

  const Sample before_{1}, saved_{2};
};

TEST_P(InterruptedParts, ByAnErrorAtEveryOperation) {
  interrupt_everywhere(false);
}

TEST_P(InterruptedParts, ByDeathAtEveryOperation) {
  interrupt_everywhere(true);
}

INSTANTIATE_TEST_SUITE_P(Rank, InterruptedParts, ::testing::Values(0, 1));

}  // namespace
}  // namespace polar::test
