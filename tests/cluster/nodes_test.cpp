// Training on two nodes: one is lost, or the cable between them is cut.
#include "comm/socket.h"
#include "launch/machines.h"
#include "launch/worker.h"
#include "training.h"

namespace polar::test {
namespace {

using launch::Machines;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

class TwoNodes : public ClusterTraining {
 protected:
  std::string wait_in_step_7(int rank) const {
    return fmt::format("wait={} {} forward 7", path("go").string(), rank);
  }
  void go() const { put(path("go"), ""); }
};

// The other goes on with what is left, which costs none of the restarts: the loss of a node is foreseen.
TEST_F(TwoNodes, OneIsLostAndTheOtherGoesOnAlone) {
  run_undisturbed(2);
  const Words arguments =
      launching({"--nnodes", "1:2", "--nproc-per-node", "1", "--rdzv-endpoint",
                 "localhost:" + std::to_string(free_port()), "--rdzv-id", "lost", "--monitor-interval",
                 "0.05", "--max-restarts", "0", "--rdzv-conf", "last_call_timeout=20,keep_alive_timeout=3"},
                "run");
  const auto first = start(arguments, wait_in_step_7(0));
  ASSERT_TRUE(first->says("waiting for more nodes")) << first->output();
  const auto second = start(arguments, wait_in_step_7(0));
  ASSERT_TRUE(first->says("[0] fault: wait")) << first->output();
  second->send(SIGKILL);
  EXPECT_EQ(second->wait(), 128 + SIGKILL);
  EXPECT_TRUE(second->all_gone());
  go();  // rank 0 finds rank 1 gone, at once
  expect_end(*first, 0);
  EXPECT_THAT(first->output(),
              AllOf(HasSubstr("node 1 (host "), HasSubstr("is lost"), HasSubstr("ranks 0 to 0 of 1"),
                    HasSubstr("[0] continuing from " + checkpoint("run", 4) + "\n")));
  const std::vector<double> want = losses("undisturbed"), got = losses("run");
  ASSERT_EQ(got.size(), static_cast<size_t>(kSteps));
  ASSERT_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i] / want[i], 1.0, 1e-5) << "step " << i + 1;
  EXPECT_EQ(checkpoints("run").back(), kSteps);
}

// Two nodes of two ranks with addresses of their own.
class TwoMachines : public TwoNodes {
 protected:
  void SetUp() override {
    if (!machines_.usable()) GTEST_SKIP() << "no network namespaces here (they need root and iproute2)";
  }
  std::unique_ptr<Launcher> node(int rank, const Words& flags, const std::string& fault = "",
                                 const std::string& master = "10.77.0.1") const {
    Words all{"--nnodes",      "2",    "--nproc-per-node",   "2",   "--node-rank", std::to_string(rank),
              "--master-addr", master, "--monitor-interval", "0.05"};
    all.insert(all.end(), flags.begin(), flags.end());
    return machines_.launch(rank, launching(all, "run", {"distributed.timeout_seconds=3"}), variables(fault),
                            launcher(fault));
  }
  // Both train and are in step 7 when the cable is pulled out.
  void start_and_cut(const Words& flags) {
    run_undisturbed(4);
    for (int i = 0; i < 2; ++i) nodes_[i] = node(i, flags, wait_in_step_7(3));
    ASSERT_TRUE(nodes_[1]->says("[3] fault: wait")) << nodes_[0]->output() << nodes_[1]->output();
    machines_.plug(false);
    go();
  }

  const Machines machines_;
  std::unique_ptr<Launcher> nodes_[2];
};

TEST_F(TwoMachines, TheCableIsCutAndTheRunStartedAgain) {
  const Words flags{"--rdzv-conf", "keep_alive_timeout=4"};
  ASSERT_NO_FATAL_FAILURE(start_and_cut(flags));
  // A rank that waits in vain ends as a hang, unless its launcher has missed the other node before.
  nodes_[0]->wait();
  const bool lost = nodes_[0]->output().find("is lost") != std::string::npos;
  expect_end(*nodes_[0], static_cast<int>(lost ? ExitCode::failed : ExitCode::hung));
  expect_end(*nodes_[1], 1);
  for (const auto& each : nodes_) EXPECT_THAT(each->output(), HasSubstr("nothing within 3 s"));
  EXPECT_THAT(nodes_[0]->output(), AnyOf(HasSubstr("first failure: rank"), HasSubstr("is lost")));
  EXPECT_THAT(nodes_[1]->output(), HasSubstr("the launchers' store is gone"));
  EXPECT_EQ(checkpoints("run"), (std::vector<int64_t>{2, 4}));
  machines_.plug(true);
  for (int i = 0; i < 2; ++i) nodes_[i] = node(i, flags);
  for (const auto& each : nodes_) expect_end(*each, 0);
  EXPECT_THAT(nodes_[0]->output(), HasSubstr("[0] continuing from " + checkpoint("run", 4) + "\n"));
  expect_the_undisturbed_result("run");
}

// For longer than the ranks wait, but not as long as the launchers do: they start all again.
TEST_F(TwoMachines, TheCableIsOutForAMoment) {
  ASSERT_NO_FATAL_FAILURE(start_and_cut({"--max-restarts", "1", "--rdzv-conf", "keep_alive_timeout=30"}));
  ASSERT_TRUE(nodes_[0]->says("nothing within 3 s")) << nodes_[0]->output();
  ASSERT_TRUE(nodes_[1]->says("nothing within 3 s")) << nodes_[1]->output();
  machines_.plug(true);
  for (const auto& each : nodes_) {
    expect_end(*each, 0);
    EXPECT_THAT(each->output(), HasSubstr("all nodes start again"));
  }
  EXPECT_THAT(nodes_[0]->output(), HasSubstr("[0] continuing from " + checkpoint("run", 4) + "\n"));
  expect_the_undisturbed_result("run");
}

TEST_F(TwoMachines, AWrongMasterAddressOnOne) {
  const Words flags{"--rdzv-conf", "join_timeout=3"};
  const auto first = node(0, flags), second = node(1, flags, "", "10.77.0.9");
  expect_end(*second, 1);
  EXPECT_THAT(second->output(), AllOf(HasSubstr("the other nodes' launchers were not reached within 3 s"),
                                      HasSubstr("10.77.0.9:29500")));
  expect_end(*first, 1);
  EXPECT_THAT(first->output(), HasSubstr("1 of at least 2 nodes came to 10.77.0.1:29500 within 3 s"));
}

}  // namespace
}  // namespace polar::test
