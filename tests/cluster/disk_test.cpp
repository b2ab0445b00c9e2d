// A disk that is full for one rank: the others do not claim the checkpoint either, the last good one stands,
// and who could not write is named.
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

}  // namespace
}  // namespace polar::test
