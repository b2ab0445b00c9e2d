// `polartrain launch` on one node, with real processes: environment, output, failures, restarts, mistakes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "launching.h"

namespace polar::launch {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;

size_t count_of(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

double seconds_of(const std::function<void()>& action) {
  const auto begin = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

TEST(LaunchEnvironment, IsTorchruns) {
  const Launched run =
      launch(with_script({"--nproc-per-node", "3", "--max-restarts", "5", "--rdzv-id", "night"},
                         "echo $RANK $LOCAL_RANK $WORLD_SIZE $LOCAL_WORLD_SIZE $GROUP_RANK $MASTER_ADDR "
                         "$TORCHELASTIC_RESTART_COUNT $TORCHELASTIC_MAX_RESTARTS $TORCHELASTIC_RUN_ID; "
                         "test $MASTER_PORT -gt 1023 && test $OMP_NUM_THREADS -ge 1 && echo good"),
             {"OMP_NUM_THREADS"});
  EXPECT_EQ(run.code, 0);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_THAT(run.output, HasSubstr(fmt::format("[{0}] {0} {0} 3 3 0 127.0.0.1 0 5 night\n", rank)));
    EXPECT_THAT(run.output, HasSubstr(fmt::format("[{}] good\n", rank)));
  }
  EXPECT_THAT(run.output, HasSubstr("3 workers on this node: OMP_NUM_THREADS="));
}

TEST(LaunchEnvironment, OneWorkerWithoutFlagsAndWhatIsSetStays) {
  const Launched run = launch(with_script({}, "echo $RANK of $WORLD_SIZE, $OMP_NUM_THREADS threads, $OTHER"),
                              {"OMP_NUM_THREADS=7", "OTHER=a=b"});
  EXPECT_EQ(run.code, 0);
  EXPECT_THAT(run.output, AnyOf(HasSubstr("[0] 0 of 1, 7 threads, a=b\n"), ContainsRegex("of [2-9]")));
  EXPECT_THAT(run.output, Not(HasSubstr("OMP_NUM_THREADS=")));
}

TEST(LaunchEnvironment, MasterAddressAndPortAsGiven) {
  const Launched run =
      launch(with_script({"--nproc-per-node=2", "--master-addr=localhost", "--master-port=4711"},
                         "echo $MASTER_ADDR:$MASTER_PORT"));
  EXPECT_THAT(run.output, HasSubstr("[1] localhost:4711\n"));
}

TEST(LaunchEnvironment, OneNodeMeetsNobody) {
  const Launched run = launch(with_script({"--nproc-per-node=1", "--nnodes=1", "--rdzv-backend=c10d",
                                           "--rdzv-endpoint=localhost:0", "--rdzv-id=x"},
                                          "echo $MASTER_ADDR $TORCHELASTIC_RUN_ID"));
  EXPECT_EQ(run.code, 0);
  EXPECT_THAT(run.output, HasSubstr("[0] 127.0.0.1 x\n"));
}

TEST(LaunchEnvironment, StandardInputIsEmptyAndSignalsAreAsAtHome) {
  const Launched run = launch(with_script({}, "cat; grep -E 'Sig(Blk|Ign)' /proc/self/status"));
  EXPECT_THAT(run.output, ContainsRegex("\\[0\\] SigBlk:\t0+\n"));
  EXPECT_THAT(run.output, ContainsRegex("\\[0\\] SigIgn:\t0+\n"));
}

// Lines written in pieces, by several at once.
TEST(LaunchOutput, LinesStayWhole) {
  const Launched run = launch(with_script({"--nproc-per-node", "4"},
                                          "for i in $(seq 200); do printf \"$i aaaaaaaaaaaaaaa\"; printf "
                                          "'bbbbbbbbbbbbbbbbb\n'; done; printf end"));
  EXPECT_EQ(run.code, 0);
  std::istringstream lines(run.output);
  std::vector<int> next(4, 1);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("[launch]")) continue;
    ASSERT_THAT(line, ContainsRegex("^\\[[0-3]\\] ([0-9]+ a{15}b{17}|end)$"));
    int& expected = next[line[1] - '0'];
    if (line.find("end") == std::string::npos) {
      EXPECT_EQ(std::stoi(line.substr(4)), expected);
      ++expected;
    }
  }
  EXPECT_THAT(next, testing::Each(201));
  EXPECT_EQ(count_of(run.output, "] end\n"), 4u);
}

TEST(LaunchOutput, OnlyTheChosenRanks) {
  const Launched run =
      launch(with_script({"--nproc-per-node", "3", "--local-ranks-filter", "0,2"}, "echo hello from $RANK"));
  EXPECT_THAT(run.output, AllOf(HasSubstr("[0] hello from 0"), HasSubstr("[2] hello from 2"),
                                Not(HasSubstr("hello from 1"))));
}

TEST(LaunchOutput, IntoFiles) {
  const test::TemporaryDirectory directory;
  const Launched run =
      launch(with_script({"--nproc-per-node", "2", "--log-dir", directory.path(), "--redirects", "0:3,1:1"},
                         "echo out $RANK; echo err $RANK >&2"));
  EXPECT_EQ(run.code, 0);
  EXPECT_EQ(read_file(directory / "attempt_0/0/stdout.log"), "out 0\n");
  EXPECT_EQ(read_file(directory / "attempt_0/0/stderr.log"), "err 0\n");
  EXPECT_EQ(read_file(directory / "attempt_0/1/stdout.log"), "out 1\n");
  EXPECT_THAT(run.output, AllOf(HasSubstr("[1] err 1\n"), Not(HasSubstr("[0]")), Not(HasSubstr("out 1"))));
}

TEST(LaunchOutput, TeeIntoFilesOfEachAttempt) {
  const test::TemporaryDirectory directory;
  const Launched run = launch(with_script({"--log-dir", directory.path(), "--max-restarts", "1"},
                                          "printf 'try %s\\nhalf' $TORCHELASTIC_RESTART_COUNT; exit 9"));
  EXPECT_EQ(run.code, 9);
  EXPECT_EQ(read_file(directory / "attempt_0/0/stdout.log"), "try 0\nhalf");
  EXPECT_EQ(read_file(directory / "attempt_1/0/stdout.log"), "try 1\nhalf");
  EXPECT_THAT(run.output, AllOf(HasSubstr("[0] try 0\n[0] half\n"), HasSubstr("[0] try 1\n[0] half\n")));
}

TEST(LaunchFailure, FirstIsReportedWithItsLastLines) {
  Launched run;
  const double seconds = seconds_of([&] {
    run = launch(with_script({"--nproc-per-node", "3"},
                             "if test $RANK = 1; then echo the cause >&2; exit 7; fi; sleep 60"));
  });
  EXPECT_EQ(run.code, 7);
  EXPECT_LT(seconds, 20);
  EXPECT_THAT(run.output,
              HasSubstr("failed: exit code 7; stopping the 2 others (SIGTERM, SIGKILL after 30 s)"));
  EXPECT_THAT(run.output,
              ContainsRegex("first failure: rank 1 \\(local rank 1, node 0, host .+, pid [0-9]+\\): "
                            "exit code 7\n\\[launch\\]   \\| the cause\n"));
}

TEST(LaunchFailure, SignalIsNamed) {
  const Launched run = launch(with_script({}, "kill -SEGV $$"));
  EXPECT_EQ(run.code, 128 + SIGSEGV);
  EXPECT_THAT(run.output, AllOf(HasSubstr("signal 11 (SIGSEGV)"), HasSubstr("it has written nothing")));
}

TEST(LaunchFailure, LastLinesComeFromFilesToo) {
  const test::TemporaryDirectory directory;
  const Launched run = launch(with_script({"--log-dir", directory.path(), "-r", "3"}, "seq 100; exit 1"));
  EXPECT_EQ(run.code, 1);
  EXPECT_THAT(run.output, HasSubstr("| 99\n[launch]   | 100\n"));
  EXPECT_THAT(run.output, Not(HasSubstr("| 80\n")));
}

TEST(LaunchFailure, WorkerThatIgnoresTermIsKilledAfterTheGracePeriod) {
  Launched run;
  const double seconds = seconds_of([&] {
    run = launch(with_script({"--nproc-per-node", "2", "--grace-period", "0.5"},
                             "if test $RANK = 0; then sleep 0.3; exit 5; fi; trap '' TERM; echo deaf; "
                             "while :; do sleep 60; done"));
  });
  EXPECT_EQ(run.code, 5);
  EXPECT_GE(seconds, 0.5);
  EXPECT_THAT(run.output, ContainsRegex("0.5 s are over, SIGKILL to rank 1 "));
}

TEST(LaunchRestart, UntilItSucceeds) {
  const Launched run = launch(with_script({"--nproc-per-node", "2", "--max-restarts", "3"},
                                          "echo try $TORCHELASTIC_RESTART_COUNT; "
                                          "test $TORCHELASTIC_RESTART_COUNT = 2 -o $RANK = 0 || exit 4; "
                                          "test $TORCHELASTIC_RESTART_COUNT = 2 || sleep 60"));
  EXPECT_EQ(run.code, 0) << run.output;
  EXPECT_EQ(count_of(run.output, "first failure: rank 1"), 2u);
  EXPECT_THAT(run.output, AllOf(HasSubstr("restart 2 of 3"), Not(HasSubstr("restart 3")),
                                HasSubstr("[0] try 2"), HasSubstr("[1] try 2")));
}

TEST(LaunchRestart, NotMoreOftenThanAllowed) {
  const Launched run = launch(with_script({"--max-restarts", "2"}, "echo try; exit 12"));
  EXPECT_EQ(run.code, 12);
  EXPECT_EQ(count_of(run.output, "[0] try\n"), 3u);
}

TEST(LaunchRestart, NotForAWrongConfiguration) {
  const Launched run = launch({"--max-restarts", "3", "train", "nowhere.yaml", "run.dir=unused"});
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.output, AllOf(HasSubstr("[0] error: "), HasSubstr("nowhere.yaml"),
                                HasSubstr("no restart after exit code 2"), Not(HasSubstr("restart 1"))));
}

struct Mistake {
  std::vector<std::string> arguments;
  std::string message;
};

class LaunchMistake : public testing::TestWithParam<Mistake> {};

TEST_P(LaunchMistake, IsSaid) {
  const Launched run = launch(GetParam().arguments);
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.output, HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Flags, LaunchMistake,
    testing::Values(
        Mistake{{}, "found nothing to start"}, Mistake{{"--"}, "found nothing to start"},
        Mistake{{"trian", "x.yaml"}, "'trian' is no subcommand that can be started"},
        Mistake{{"launch", "train"}, "'launch' is no subcommand that can be started"},
        Mistake{{"--nproc", "2", "--", "true"}, "there is no flag '--nproc'"},
        Mistake{{"--nproc-per-node", "zero", "--", "true"}, "found 'zero', expected a number from 1 on, gpu"},
        Mistake{{"--nproc-per-node", "0", "--", "true"}, "found '0', expected a number from 1 on"},
        Mistake{{"--nnodes", "3:2", "--", "true"}, "--nnodes: found '3:2', expected a number of nodes"},
        Mistake{{"--nnodes", "2", "--", "true"}, "needs --node-rank (0 to 1) and --master-addr"},
        Mistake{{"--nnodes", "1:2", "--", "true"}, "--nnodes 1:2 needs --rdzv-endpoint"},
        Mistake{{"--nnodes", "2", "--node-rank", "2", "--master-addr", "a", "--", "true"}, "expected 0 to 1"},
        Mistake{{"--standalone", "--nnodes", "2", "--", "true"}, "--standalone is for one node"},
        Mistake{{"--redirects", "4", "--", "true"}, "--redirects: found '4', expected 0 (none)"},
        Mistake{{"--tee", "1:3", "--", "true"}, "--tee: there is no local rank 1"},
        Mistake{{"--local-ranks-filter", "x", "--", "true"}, "--local-ranks-filter: found 'x'"},
        Mistake{{"--signals-to-handle", "SIGKILL", "--", "true"}, "--signals-to-handle: found 'SIGKILL'"},
        Mistake{{"--nnodes", "2", "--rdzv-endpoint", "a:b", "--", "true"},
                "--rdzv-endpoint: found 'a:b', expected"},
        Mistake{{"--rdzv-conf", "join=3", "--", "true"},
                "--rdzv-conf: found 'join=3', expected join_timeout"},
        Mistake{{"--max-restarts", "-1", "--", "true"}, "--max-restarts: found -1"},
        Mistake{{"--master-port", "70000", "--", "true"}, "--master-port: found 70000"},
        Mistake{{"--", "no-such-program"}, "cannot start 'no-such-program': no such program in PATH"},
        Mistake{{"--", "/nowhere/program"}, "cannot start '/nowhere/program': No such file or directory"},
        Mistake{{"--", "/etc/passwd"}, "cannot start '/etc/passwd': Permission denied"}));

TEST(LaunchMistake, ScriptWithoutItsFirstLine) {
  const test::TemporaryDirectory directory;
  const fs::path script = test::put(directory / "script", "echo hello\n");
  fs::permissions(script, fs::perms::owner_all);
  const Launched run = launch({"--max-restarts", "2", "--", script});
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.output, HasSubstr("(a script needs a first line such as #!/bin/sh)"));
}

TEST(LaunchHelp, HasAnExample) {
  const Launched help = launch({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.output, AllOf(HasSubstr("Example: polartrain launch "), HasSubstr("--max-restarts")));
}

// The worker's own flags are the worker's.
TEST(LaunchHelp, OfTheLaunchedCommand) {
  const Launched help = launch({"--nproc-per-node", "1", "train", "--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.output, HasSubstr("[0] Example: polartrain train "));
}

}  // namespace
}  // namespace polar::launch
