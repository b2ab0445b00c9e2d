// Saving, interrupted at every single operation that changes the disk: by an error, and by the death of the
// process (there, a write may also be torn). Whatever happens, the checkpoint before it loads bit by bit.
#include <gmock/gmock.h>
#include <unistd.h>

#include <fstream>

#include "base/file.h"
#include "checkpoint/sample.h"
#include "checkpoint/store.h"
#include "errors.h"
#include "process.h"
#include "temporary.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// What stands in the run before, and what is then saved (always as step 2, with step 1 before it).
struct Scenario {
  const char* name;
  bool step_2_exists, step_2_is_broken, retention_deletes;
};
void PrintTo(const Scenario& s, std::ostream* out) {
  *out << s.name;
}

class InterruptedSave : public ::testing::TestWithParam<Scenario> {
 protected:
  InterruptedSave() : older_(0), before_(1), replaced_(12), saved_(2) {}

  void prepare(const fs::path& run) const {
    if (GetParam().retention_deletes) save_checkpoint(run, 0, older_.content());
    save_checkpoint(run, 1, before_.content());
    if (!GetParam().step_2_exists) return;
    save_checkpoint(run, 2, replaced_.content());
    if (GetParam().step_2_is_broken) fs::resize_file(checkpoint_dir(run, 2) / "model.safetensors", 100);
  }

  void save(const fs::path& run) const {
    CheckpointWriter::Request request{run, 2, saved_.content(), {}};
    if (GetParam().retention_deletes) request.retention.keep_last = 2;
    save_and_retain(request);
  }

  // How many operations one save has; all of it, or only what comes before the retention.
  int count_operations(bool with_retention = true) const {
    TemporaryDirectory run;
    prepare(run.path());
    int count = 0;
    set_file_fault([&](std::string_view, const fs::path&) { ++count; });
    if (with_retention)
      save(run.path());
    else
      save_checkpoint(run.path(), 2, saved_.content());
    set_file_fault({});
    return count;
  }

  // Right after the interruption: the newest checkpoint that verifies is complete, and never older than
  // step 1. Then: the leftovers are cleared, and the same save succeeds.
  void expect_sound(const fs::path& run) const {
    before_.expect_in(checkpoint_dir(run, 1));
    expect_latest(run);
    recover(run);
    expect_latest(run);
    for (const auto& entry : fs::directory_iterator(checkpoints_dir(run)))
      EXPECT_FALSE(entry.path().filename().string().starts_with('.')) << entry.path();
    if (GetParam().step_2_exists && !GetParam().step_2_is_broken) {
      EXPECT_EQ(latest_valid(run)->step, 2);  // a valid one that was being replaced is never lost
    }
    EXPECT_TRUE(recover(run).empty());
    save(run);
    saved_.expect_in(checkpoint_dir(run, 2));
    before_.expect_in(checkpoint_dir(run, 1));
  }

  // The retention fails: the checkpoint is saved all the same, and the log says what was not deleted.
  void expect_only_a_warning(const fs::path& run, const std::string& operation) const {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    EXPECT_NO_THROW(save(run));
    const std::string log =
        ::testing::internal::GetCapturedStdout() + ::testing::internal::GetCapturedStderr();
    EXPECT_THAT(log, AllOf(HasSubstr("checkpoint step 2 is saved"), HasSubstr(operation)));
    saved_.expect_in(checkpoint_dir(run, 2));
  }

  void expect_latest(const fs::path& run) const {
    const auto found = latest_valid(run);
    ASSERT_TRUE(found);
    if (found->step == 1) return before_.expect_in(found->dir);
    ASSERT_EQ(found->step, 2);
    const bool is_new = read_state(found->dir) == saved_.content().state;
    (is_new ? saved_ : replaced_).expect_in(found->dir);
  }

  Sample older_, before_, replaced_, saved_;
};

TEST_P(InterruptedSave, ByAnErrorAtEveryOperation) {
  const int count = count_operations(), saving = count_operations(/*with_retention=*/false);
  ASSERT_GT(saving, 15);  // six files, each created, written and flushed
  for (int k = 0; k < count; ++k) {
    SCOPED_TRACE(k);
    TemporaryDirectory run;
    prepare(run.path());
    int seen = 0;
    std::string operation;
    set_file_fault([&](std::string_view what, const fs::path& path) {
      if (seen++ != k) return;
      operation = fmt::format("{} {}", what, path.string());
      fail("cannot {}: No space left on device", operation);
    });
    if (k < saving) {
      EXPECT_THAT(message_of([&] { save(run.path()); }),
                  AllOf(HasSubstr("saving checkpoint step 2"), HasSubstr(operation)));
    } else {
      expect_only_a_warning(run.path(), operation);
    }
    set_file_fault({});
    expect_sound(run.path());
  }
}

TEST_P(InterruptedSave, ByDeathAtEveryOperation) {
  constexpr int kDied = 9;
  const int count = count_operations();
  for (int k = 0; k < count; ++k) {
    SCOPED_TRACE(k);
    TemporaryDirectory run;
    prepare(run.path());
    const int status = in_child([&] {
      int seen = 0;
      set_file_fault([&](std::string_view what, const fs::path& path) {
        if (seen++ != k) return;
        if (what == "write") std::ofstream(path, std::ios::binary | std::ios::app) << "torn";
        ::_exit(kDied);
      });
      save(run.path());
      return 0;
    });
    ASSERT_EQ(status, kDied);
    expect_sound(run.path());
  }
}

INSTANTIATE_TEST_SUITE_P(Scenarios, InterruptedSave,
                         ::testing::Values(Scenario{"new_step", false, false, false},
                                           Scenario{"replaces_a_valid_one", true, false, false},
                                           Scenario{"replaces_a_broken_one", true, true, false},
                                           Scenario{"retention_deletes", false, false, true}),
                         [](const auto& each) { return std::string(each.param.name); });

TEST(FirstSave, InterruptedAnywhereLeavesARunThatStartsAfresh) {
  const Sample sample(1);
  for (int k = 0;; ++k) {
    TemporaryDirectory run;
    int seen = 0;
    const int status = in_child([&] {
      set_file_fault([&](std::string_view, const fs::path&) {
        if (seen++ == k) ::_exit(9);
      });
      save_checkpoint(run.path(), 1, sample.content());
      return 0;
    });
    if (status == 0) {
      EXPECT_GT(k, 15);
      break;
    }
    EXPECT_EQ(latest_valid(run.path()), std::nullopt) << k;
    recover(run.path());
    save_checkpoint(run.path(), 1, sample.content());
    sample.expect_in(checkpoint_dir(run.path(), 1));
  }
}

TEST(CheckpointWriter, ABackgroundSaveThatFailsLeavesTheOneBefore) {
  TemporaryDirectory run;
  const Sample before(1), lost(2);
  save_checkpoint(run.path(), 1, before.content());
  set_file_fault([](std::string_view what, const fs::path& path) {
    if (what == "sync") fail("cannot flush {}: No space left on device", path.string());
  });
  CheckpointWriter writer;
  writer.start({run.path(), 2, lost.content(), {}});
  EXPECT_THROW(writer.wait(), Error);
  set_file_fault({});
  EXPECT_EQ(latest_valid(run.path())->step, 1);
  before.expect_in(checkpoint_dir(run.path(), 1));
  EXPECT_TRUE(recover(run.path()).empty());  // a failure that was noticed leaves nothing behind
}

}  // namespace
}  // namespace polar::test
