// A checkpoint that several processes write: what rank 0 does when others fail, are late, or never come.
#include "checkpoint/parts.h"

#include <gmock/gmock.h>

#include <thread>

#include "base/file.h"
#include "checkpoint/sample.h"
#include "errors.h"
#include "temporary.h"

namespace polar::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kRanks = 3;
constexpr int64_t kStep = 100;

class Parts : public ::testing::Test {
 protected:
  // What a rank gives: rank 0 all but the tensors, the others a tensor each.
  CheckpointContent content(int rank, double timeout = 60) const {
    CheckpointContent content = sample_.content();
    content.optimizer.clear();
    content.model = {{"of-rank-" + std::to_string(rank), sample_.content().model[0].tensor}};
    content.part.rank = rank;
    content.part.world_size = kRanks;
    content.part.token = "this start";
    content.part.timeout_seconds = timeout;
    return content;
  }
  void save(int rank, double timeout = 60) const {
    save_checkpoint(run_.path(), kStep, content(rank, timeout));
  }
  fs::path parts() const { return parts_dir(checkpoint_dir(run_.path(), kStep)); }
  // A rank whose disk is full: something stands where its file would be.
  void fail_to_save(int rank) const {
    const fs::path file = parts() / ("model-0000" + std::to_string(rank + 1) + "-of-00003.safetensors");
    fs::create_directories(file / "in the way");
    EXPECT_THROW(save(rank), Error);
  }
  std::string error_of_rank_0(double timeout = 60) const {
    return error_of([&] { save(0, timeout); }).what();
  }

  const Sample sample_{kStep};
  const TemporaryDirectory run_;
};

TEST_F(Parts, AllOfThemMakeOneCheckpoint) {
  save(2);
  save(1);
  save(0);
  const fs::path dir = checkpoint_dir(run_.path(), kStep);
  EXPECT_THAT(verify(dir), IsEmpty());
  EXPECT_EQ(TensorSource(dir).names().size(), static_cast<size_t>(kRanks));
  EXPECT_FALSE(fs::exists(parts()));
}

// Rank 0 takes the part as soon as the note has its name, while the note's directory is still being flushed.
TEST_F(Parts, ATakenPartIsNoFailure) {
  save(2);
  set_file_fault([&](std::string_view operation, const fs::path& path) {
    if (operation != "rename" || path.filename() != "rank-1.json") return;
    fs::rename(path.string() + ".tmp", path);
    while (fs::exists(parts())) std::this_thread::sleep_for(1ms);
  });
  std::thread rank_0([&] { save(0); });
  EXPECT_NO_THROW(save(1));
  rank_0.join();
  set_file_fault({});
  EXPECT_THAT(verify(checkpoint_dir(run_.path(), kStep)), IsEmpty());
}

TEST_F(Parts, AFailureIsSeenThoughARankBeforeItIsStillMissing) {
  fs::create_directories(parts());
  fail_to_save(2);
  EXPECT_THAT(error_of_rank_0(), HasSubstr("rank 2: "));
}

TEST_F(Parts, AllThatDoNotComeAreNamed) {
  EXPECT_THAT(error_of_rank_0(0.1),
              AllOf(HasSubstr("rank 1, 2 did not deliver its part of the checkpoint to "),
                    HasSubstr(" within 0.1 s: is it a file system")));
  save(1);
  EXPECT_THAT(error_of_rank_0(0.1), HasSubstr("rank 2 did not deliver"));
}

class FailedRun : public Parts {
 protected:
  // Rank 0 writes in the background when its run ends by an exception.
  void fail_while_writing() {
    try {
      CheckpointWriter writer;
      CheckpointWriter::Request request;
      request.run = run_.path();
      request.step = kStep;
      request.content = content(0, 3600);
      writer.start(std::move(request));
      throw std::runtime_error("the run has failed");
    } catch (const std::runtime_error&) {
    }
  }
};

TEST_F(FailedRun, DoesNotWaitForARankThatIsGone) {
  save(1);
  fail_while_writing();  // waiting for as long as a part may take, 3600 s, this test would not end
  EXPECT_EQ(latest_valid(run_.path()), std::nullopt);
}

TEST_F(FailedRun, TakesWhatComesSoonAfter) {
  save(1);
  std::thread late([&] {
    std::this_thread::sleep_for(500ms);
    save(2);
  });
  fail_while_writing();
  late.join();
  ASSERT_TRUE(latest_valid(run_.path()));
  EXPECT_EQ(latest_valid(run_.path())->step, kStep);
}

}  // namespace
}  // namespace polar::test
