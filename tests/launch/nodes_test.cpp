// Several nodes: two launchers on this machine, each a node of its own to the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launch/meeting.h"
#include "launching.h"
#include "machines.h"

namespace polar::launch {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

// The same script on every node.
class Nodes : public testing::Test {
 protected:
  using Flags = std::vector<std::string>;

  // A node with its rank (static rendezvous).
  std::unique_ptr<Launcher> node(int rank, const std::string& script, Flags flags = {}) const {
    flags.insert(flags.begin(), {"--nnodes", "2", "--node-rank", std::to_string(rank), "--master-addr",
                                 "127.0.0.1", "--master-port", port_, "--monitor-interval", "0.05",
                                 "--rdzv-conf", "join_timeout=30", "--nproc-per-node", "1"});
    return std::make_unique<Launcher>(with_script(flags, script));
  }
  // A node of an elastic run.
  std::unique_ptr<Launcher> elastic(const std::string& script, Flags flags = {}) const {
    flags.insert(flags.begin(),
                 {"--nnodes", "1:2", "--rdzv-endpoint", "localhost:" + port_, "--rdzv-id", "elastic",
                  "--monitor-interval", "0.05", "--rdzv-conf",
                  "join_timeout=30,last_call_timeout=10,keep_alive_timeout=3", "--nproc-per-node", "1"});
    return std::make_unique<Launcher>(with_script(flags, script));
  }
  static void expect_end(Launcher& launcher, int code) {
    EXPECT_EQ(launcher.wait(), code) << launcher.output();
    EXPECT_TRUE(launcher.all_gone(0)) << launcher.output();
  }

  const test::TemporaryDirectory directory_;
  const std::string port_ = std::to_string(free_port());
};

TEST_F(Nodes, RanksGoOnOverTheNodes) {
  const std::string script =
      "echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $GROUP_RANK $GROUP_WORLD_SIZE; "
      "echo meet at $MASTER_ADDR $MASTER_PORT";
  const auto second = node(1, script, {"--nproc-per-node", "1"});
  const auto first = node(0, script, {"--nproc-per-node", "2"});
  expect_end(*first, 0);
  expect_end(*second, 0);
  EXPECT_THAT(first->output(), AllOf(HasSubstr("[0] 0 0 3 2 0 2\n"), HasSubstr("[1] 1 1 3 2 0 2\n")));
  EXPECT_THAT(second->output(), HasSubstr("[2] 2 0 3 1 1 2\n"));
  const std::string text = second->output();
  const size_t begin = text.find("] meet at 127.0.0.1 ");
  ASSERT_NE(begin, std::string::npos) << text;
  EXPECT_THAT(first->output(), HasSubstr(text.substr(begin, text.find('\n', begin) - begin)));
}

TEST_F(Nodes, FailureOnOneEndsAllWithItsCode) {
  const std::string script = "echo ready; test $RANK = 0 && sleep 60; echo the cause; exit 7";
  const auto first = node(0, script), second = node(1, script);
  expect_end(*first, 7);
  expect_end(*second, 7);
  EXPECT_THAT(first->output(),
              ContainsRegex("first failure: rank 1 \\(local rank 0, node 1, host .+\\): exit code 7"));
  EXPECT_THAT(first->output(), HasSubstr("[launch]   | the cause\n"));
}

TEST_F(Nodes, StartAgainTogether) {
  // The one that fails waits for what the other says before.
  const std::string said = directory_ / "said";
  const std::string script =
      "echo try $TORCHELASTIC_RESTART_COUNT; test $TORCHELASTIC_RESTART_COUNT = 1 && exit 0; "
      "test $RANK = 0 && echo > " +
      said + " && sleep 60; while ! test -e " + said + "; do sleep 0.01; done; exit 4";
  const auto first = node(0, script, {"--max-restarts", "1"}),
             second = node(1, script, {"--max-restarts", "1"});
  expect_end(*first, 0);
  expect_end(*second, 0);
  EXPECT_THAT(first->output(), AllOf(HasSubstr("[0] try 0"), HasSubstr("[0] try 1")));
  EXPECT_THAT(second->output(), AllOf(HasSubstr("[1] try 0"), HasSubstr("[1] try 1")));
}

// One that has succeeded waits for the others, and starts again with them.
TEST_F(Nodes, SuccessIsThatOfAll) {
  const std::string script =
      "echo try $TORCHELASTIC_RESTART_COUNT; test $RANK = 0 && exit 0; sleep 0.5; exit $((1 - "
      "$TORCHELASTIC_RESTART_COUNT))";
  const auto first = node(0, script, {"--max-restarts", "1"}),
             second = node(1, script, {"--max-restarts", "1"});
  expect_end(*first, 0);
  expect_end(*second, 0);
  EXPECT_THAT(first->output(), HasSubstr("[0] try 1"));
}

TEST_F(Nodes, SigtermToOneStopsAll) {
  const std::string script = "trap 'echo saved; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
  const auto first = node(0, script), second = node(1, script);
  ASSERT_TRUE(first->says("[0] ready") && second->says("[1] ready"));
  second->send(SIGTERM);
  expect_end(*second, 3);
  expect_end(*first, 3);
  EXPECT_THAT(first->output(), AllOf(HasSubstr("[0] saved"), HasSubstr("node 1 was told to stop")));
}

TEST_F(Nodes, LostNodeIsNoticed) {
  const std::string script = "echo ready; sleep 60";
  const Flags conf{"--rdzv-conf", "keep_alive_timeout=2"};
  const auto first = node(0, script, conf), second = node(1, script, conf);
  ASSERT_TRUE(first->says("[0] ready") && second->says("[1] ready"));
  second->send(SIGKILL);
  expect_end(*first, 1);
  EXPECT_THAT(first->output(),
              ContainsRegex("node 1 \\(host .+\\) is lost: its launcher has not been heard of"));
  EXPECT_TRUE(second->all_gone());
}

TEST_F(Nodes, LostStoreEndsTheRun) {
  const std::string script = "echo ready; sleep 60";
  const auto first = node(0, script), second = node(1, script);
  ASSERT_TRUE(first->says("[0] ready") && second->says("[1] ready"));
  first->send(SIGKILL);
  expect_end(*second, 1);
  EXPECT_THAT(second->output(), HasSubstr("the launchers' store is gone"));
  EXPECT_TRUE(first->all_gone());
}

TEST_F(Nodes, NotEnoughOfThem) {
  const auto first = node(0, "echo never", {"--rdzv-conf", "join_timeout=1"});
  expect_end(*first, 1);
  EXPECT_THAT(first->output(),
              AllOf(HasSubstr("1 of at least 2 nodes came to 127.0.0.1:" + port_ + " within 1 s"),
                    Not(HasSubstr("never"))));
}

TEST_F(Nodes, NobodyHoldsTheStoreAndSigtermEndsTheWaiting) {
  const auto second = node(1, "echo never");
  ASSERT_TRUE(second->says("waiting for the launcher that holds the store"));
  second->send(SIGTERM);
  expect_end(*second, 128 + SIGTERM);
}

TEST_F(Nodes, TheSameRankTwice) {
  const auto first = node(1, "echo done"), second = node(1, "echo done");
  const auto third = node(0, "sleep 0.5; echo done");
  expect_end(*third, 0);
  const int one = first->wait(), other = second->wait();
  EXPECT_EQ(std::min(one, other), 0);
  EXPECT_EQ(std::max(one, other), 2);
  EXPECT_THAT((one == 2 ? first : second)->output(),
              AllOf(HasSubstr("two launchers have --node-rank 1"), Not(HasSubstr("done"))));
}

TEST_F(Nodes, OtherFlagsElsewhere) {
  const auto first = node(0, "sleep 60");
  ASSERT_TRUE(eventually([&] { return !first->processes().empty(); }));
  const auto second = node(1, "sleep 60", {"--max-restarts", "1"});
  // Whoever comes second sees it.
  ASSERT_TRUE(eventually([&] { return !first->running() || !second->running(); }, 20));
  first->send(SIGTERM);
  second->send(SIGTERM);
  first->wait();
  second->wait();
  EXPECT_THAT(
      first->output() + second->output(),
      ContainsRegex("need the same flags: found .*--max-restarts . here, .*--max-restarts . elsewhere"));
}

// Without the lost node, on a smaller world; and with a new one from the next restart on.
TEST_F(Nodes, ElasticRunGoesOnWithThoseThatRemain) {
  const std::string stop = directory_ / "stop", failure = directory_ / "fail";
  const std::string script = "echo world $WORLD_SIZE try $TORCHELASTIC_RESTART_COUNT; while ! test -e " +
                             stop + "; do test $RANK = 0 -a -e " + failure + " && rm " + failure +
                             " && exit 5; sleep 0.05; done";
  const auto first = elastic(script, {"--max-restarts", "1"});
  ASSERT_TRUE(first->says("waiting for more nodes"));
  const auto second = elastic(script, {"--max-restarts", "1"});
  ASSERT_TRUE(first->says("[0] world 2 try 0") && second->says("[1] world 2 try 0")) << first->output();
  second->send(SIGKILL);
  ASSERT_TRUE(first->says("[0] world 1 try 1")) << first->output();
  EXPECT_THAT(first->output(), HasSubstr("node 1 (host "));

  const auto third = elastic(script, {"--max-restarts", "1"});
  ASSERT_TRUE(third->says("it takes part from the next restart on")) << third->output();
  test::put(failure, "");
  ASSERT_TRUE(first->says("[0] world 2 try 2") && third->says("[1] world 2 try 2")) << first->output();
  test::put(stop, "");
  expect_end(*first, 0);
  expect_end(*third, 0);
}

// A node that is told to stop leaves; the others go on without it.
TEST_F(Nodes, ElasticRunGoesOnWithoutANodeThatWasStopped) {
  const std::string stop = directory_ / "stop";
  const std::string script =
      "trap 'exit 3' TERM; echo world $WORLD_SIZE try $TORCHELASTIC_RESTART_COUNT; while ! test -e " + stop +
      "; do sleep 0.05; done";
  const auto first = elastic(script);
  ASSERT_TRUE(first->says("waiting for more nodes"));
  const auto second = elastic(script);
  ASSERT_TRUE(first->says("[0] world 2 try 0") && second->says("[1] world 2 try 0"));
  second->send(SIGTERM);
  expect_end(*second, 3);
  ASSERT_TRUE(first->says("[0] world 1 try 1")) << first->output();
  test::put(stop, "");
  expect_end(*first, 0);
}

// Without the node of the endpoint there is no going on.
TEST_F(Nodes, ElasticRunEndsWithTheNodeThatHoldsTheStore) {
  const std::string script = "trap 'exit 3' TERM; echo world $WORLD_SIZE; while :; do sleep 0.05; done";
  const auto first = elastic(script);
  ASSERT_TRUE(first->says("waiting for more nodes"));
  const auto second = elastic(script);
  ASSERT_TRUE(first->says("[0] world 2") && second->says("[1] world 2"));
  first->send(SIGTERM);
  expect_end(*first, 3);
  expect_end(*second, 3);
  EXPECT_THAT(second->output(), HasSubstr("node 0 was told to stop"));
}

TEST(Network, CutNodeEndsItsWorkersAndTheOthersGoOn) {
  const Machines machines;
  if (!machines.usable()) GTEST_SKIP() << "no network namespaces here (they need root and iproute2)";
  const test::TemporaryDirectory directory;
  const std::string stop = directory / "stop";
  const std::vector<std::string> arguments = with_script(
      {"--nnodes", "1:2", "--nproc-per-node", "2", "--rdzv-endpoint", "10.77.0.1:29500", "--rdzv-id", "cut",
       "--max-restarts", "1", "--rdzv-conf", "last_call_timeout=2,keep_alive_timeout=3"},
      "echo world $WORLD_SIZE at $MASTER_ADDR; while ! test -e " + stop + "; do sleep 0.05; done");
  const auto first = machines.launch(0, arguments);
  ASSERT_TRUE(first->says("waiting for more nodes")) << first->output();
  const auto second = machines.launch(1, arguments);
  ASSERT_TRUE(first->says("[1] world 4 at 10.77.0.1") && second->says("[3] world 4 at 10.77.0.1"));
  machines.plug(false);
  EXPECT_EQ(second->wait(), 1) << second->output();
  EXPECT_THAT(second->output(), HasSubstr("the launchers' store is gone"));
  EXPECT_TRUE(second->all_gone(0));
  ASSERT_TRUE(first->says("[1] world 2 at 10.77.0.1")) << first->output();
  EXPECT_THAT(first->output(), HasSubstr("is lost: its launcher has not been heard of"));
  machines.plug(true);
  const auto late = machines.launch(1, arguments);
  EXPECT_TRUE(late->says("it takes part from the next restart on")) << late->output();
  test::put(stop, "");
  EXPECT_EQ(first->wait(), 0) << first->output();
  EXPECT_EQ(late->wait(), 0) << late->output();
}

TEST(MeetingText, IsReadAsItWasWritten) {
  const std::vector<Member> members = members_from(to_text({{3, -1, true, 2, 4711, "fe80::1", "a"}, {}}));
  ASSERT_EQ(members.size(), 1u);  // the second has no address, and is none
  EXPECT_EQ(members[0].index, 3);
  EXPECT_EQ(members[0].node_rank, -1);
  EXPECT_TRUE(members[0].holds_store);
  EXPECT_EQ(members[0].processes, 2);
  EXPECT_EQ(members[0].master_port, 4711);
  EXPECT_EQ(members[0].address, "fe80::1");
  const Verdict verdict = verdict_from(to_text(Verdict{Verdict::Next::restart, 7, 3, true, "a\nb"}));
  EXPECT_EQ(verdict.next, Verdict::Next::restart);
  EXPECT_EQ(verdict.code, 7);
  EXPECT_EQ(verdict.remaining, 3);
  EXPECT_TRUE(verdict.lost);
  EXPECT_EQ(verdict.text, "a\nb");
}

}  // namespace
}  // namespace polar::launch
