// A disk that is full for one rank: the others do not claim the checkpoint either, the last good one stands,
// and who could not write is named.
#include <sched.h>
#include <sys/mount.h>

#include "training.h"

namespace polar::test {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

struct FullDisk {
  int rank;
  int bytes;  // that a file may have; 4096: enough for a rank to say that it has failed, 0: not even that
};
void PrintTo(const FullDisk& disk, std::ostream* out) {
  *out << "rank " << disk.rank << ", " << disk.bytes << " bytes";
}

class DiskOfOneRank : public ClusterTraining, public testing::WithParamInterface<FullDisk> {};

TEST_P(DiskOfOneRank, IsFullFromStep9On) {
  const auto [rank, bytes] = GetParam();
  const Words overrides{"checkpoint.every_steps=4", "distributed.timeout_seconds=6"};
  const Words arguments = launching({"--nproc-per-node", "2", "--max-restarts", "0"}, "run", overrides);
  const auto undisturbed = start(launching({"--nproc-per-node", "2"}, "undisturbed", overrides));
  expect_end(*undisturbed, 0);

  const auto launcher = start(arguments, fmt::format("limit={} {} forward 9", bytes, rank));
  expect_end(*launcher, 1);
  // Step 4 is complete by then. Step 8 in the middle of the run, which goes on, and step 12 at its end, which
  // is a failure.
  EXPECT_THAT(launcher->output(),
              AllOf(ContainsRegex("\\[0\\] error: rank " + std::to_string(rank) +
                                  ": saving checkpoint step 8: .*File too large; the run goes on"),
                    ContainsRegex("error: rank " + std::to_string(rank) +
                                  ": saving checkpoint step 12: .*File too large"),
                    ContainsRegex("first failure: rank [01] \\(.+\\): exit code 1"),
                    Not(HasSubstr("checkpoint " + checkpoint("run", kSteps)))));
  EXPECT_EQ(checkpoints("run"), std::vector<int64_t>{4});

  const auto again = start(arguments);
  expect_end(*again, 0);
  EXPECT_THAT(again->output(), HasSubstr("[0] continuing from " + checkpoint("run", 4) + "\n"));
  expect_the_undisturbed_result("run");
}

INSTANTIATE_TEST_SUITE_P(Faults, DiskOfOneRank,
                         testing::Values(FullDisk{1, 4096}, FullDisk{1, 0}, FullDisk{0, 4096}),
                         [](const auto& test) {
                           return fmt::format("rank{}_{}_bytes", test.param.rank, test.param.bytes);
                         });

// A small disk of all ranks, which something else fills up for a while.
class DiskOfAll : public ClusterTraining {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(path("disk"));
    mounted_ = ::unshare(CLONE_NEWNS) == 0 &&
               ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               ::mount("tmpfs", path("disk").c_str(), "tmpfs", 0, "size=4m") == 0;
    if (!mounted_) GTEST_SKIP() << "this process may not mount a tmpfs";
  }
  void TearDown() override {
    if (mounted_) ::umount2(path("disk").c_str(), MNT_DETACH);
  }
  void fill_up() const {
    std::ofstream file(path("disk/filling"), std::ios::binary);
    const std::string block(4096, 'x');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) continue;
  }
  bool mounted_ = false;
};

TEST_F(DiskOfAll, IsFullFromStep9On) {
  const Words overrides{"checkpoint.every_steps=4"};
  const Words arguments = launching({"--nproc-per-node", "2"}, "disk/run", overrides);
  const auto undisturbed = start(launching({"--nproc-per-node", "2"}, "undisturbed", overrides));
  expect_end(*undisturbed, 0);

  const auto launcher = start(arguments, "wait=" + path("go").string() + " 1 forward 9");
  ASSERT_TRUE(launcher->says("[1] fault: wait")) << launcher->output();
  fill_up();
  put(path("go"), "");
  expect_end(*launcher, 1);
  EXPECT_THAT(launcher->output(),
              AllOf(ContainsRegex("\\[0\\] error: rank [01]: saving checkpoint step 8: .*No space left on "
                                  "device.*; the run goes on"),
                    ContainsRegex("error: rank [01]: saving checkpoint step 12: .*No space left on device"),
                    HasSubstr("free some space, or put the run on another disk")));
  EXPECT_EQ(checkpoints("disk/run"), std::vector<int64_t>{4});

  std::filesystem::remove(path("disk/filling"));
  const auto again = start(arguments);
  expect_end(*again, 0);
  EXPECT_THAT(again->output(), HasSubstr("[0] continuing from " + checkpoint("disk/run", 4) + "\n"));
  expect_the_undisturbed_result("disk/run");
}

}  // namespace
}  // namespace polar::test
