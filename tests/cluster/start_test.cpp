// Runs that cannot start, or not as they should: what is said, with which exit code, and that nothing of an
// earlier run is lost.
#include "comm/socket.h"
#include "comm/store.h"
#include "data/shard.h"
#include "data/shard_writer.h"
#include "errors.h"
#include "launch/worker.h"
#include "training.h"

namespace polar::test {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::Not;
using namespace std::chrono_literals;

class Starts : public ClusterTraining {
 protected:
  // A run that has come to step 4, which nothing that follows may harm.
  void begin_run() const {
    std::filesystem::copy(path("undisturbed"), path("run"), std::filesystem::copy_options::recursive);
    for (int64_t step = 6; step <= kSteps; step += 2) std::filesystem::remove_all(checkpoint("run", step));
  }
  void expect_unharmed() const { EXPECT_EQ(checkpoints("run"), (std::vector<int64_t>{2, 4})); }
  void finish_run() {
    expect_unharmed();
    const auto launcher = start(launching({"--nproc-per-node", "2"}, "run"));
    expect_end(*launcher, 0);
    EXPECT_THAT(launcher->output(), HasSubstr("[0] continuing from " + checkpoint("run", 4) + "\n"));
    expect_the_undisturbed_result("run");
  }
  const std::string port_ = std::to_string(free_port());
};

TEST_F(Starts, AWorkerThatFailsAtOnce) {
  run_undisturbed(2);
  begin_run();
  const Words flags{"--nproc-per-node", "2"};
  const auto first = start(launching(flags, "run"), "exit 1 start 0");
  expect_end(*first, 9);
  EXPECT_THAT(first->output(), ContainsRegex("first failure: rank 1 \\(.+\\): exit code 9"));
  EXPECT_THAT(first->output(), HasSubstr("[launch]   | fault: exit at start"));
  // With a restart it is only a delay.
  const auto second =
      start(launching({"--nproc-per-node", "2", "--max-restarts", "1"}, "run"), "exit 0 start 0");
  expect_end(*second, 0);
  EXPECT_THAT(second->output(), AllOf(ContainsRegex("first failure: rank 0 \\(.+\\): exit code 9"),
                                      HasSubstr("restart 1 of 1"), HasSubstr("continuing from")));
  expect_the_undisturbed_result("run");
}

TEST_F(Starts, ThePortIsTaken) {
  run_undisturbed(2);
  begin_run();
  {
    const Socket other = listen_on(0);
    const std::string port = std::to_string(port_of(other.get()));
    const auto launcher = start(launching({"--nproc-per-node", "2", "--master-port", port}, "run"));
    expect_end(*launcher, 1);
    EXPECT_THAT(launcher->output(),
                AllOf(ContainsRegex("first failure: rank 0 \\(.+\\): exit code 1"),
                      HasSubstr("MASTER_PORT=" + port), HasSubstr("another process uses it")));
  }
  finish_run();
}

TEST_F(Starts, AWrongMasterAddress) {
  run_undisturbed(2);
  begin_run();
  const auto launcher = start(
      launching({"--nproc-per-node", "2", "--master-addr", "no-such-host.invalid", "--master-port", port_},
                "run", {"distributed.timeout_seconds=2"}));
  expect_end(*launcher, 1);
  EXPECT_THAT(launcher->output(), HasSubstr("'no-such-host.invalid' cannot be resolved"));
  finish_run();
}

// Somebody who connects to the ranks' store while they train: with another protocol, with another run's
// greeting, with half a greeting, many times, and without a word.
TEST_F(Starts, AStrangerAtTheStore) {
  run_undisturbed(2);
  const auto launcher = start(launching({"--nproc-per-node", "2", "--master-port", port_}, "run"),
                              "wait=" + path("go").string() + " 1 forward 7");
  ASSERT_TRUE(launcher->says("[1] fault: wait")) << launcher->output();
  const auto port = static_cast<uint16_t>(std::stoi(port_));
  std::vector<Socket> strangers;
  const auto visit = [&](const std::string& words) {
    strangers.push_back(connect_to("127.0.0.1", port, deadline_after(5s)));
    EXPECT_EQ(send_all(strangers.back().get(), words.data(), words.size(), deadline_after(5s)),
              Transfer::done);
  };
  visit("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  visit("POLAR");
  for (int i = 0; i < 50; ++i) visit("");
  EXPECT_THAT(message_of([&] { StoreClient("127.0.0.1", port, "another", 5s); }),
              HasSubstr("belongs to another run"));
  ASSERT_TRUE(launcher->says("belongs to another run")) << launcher->output();
  put(path("go"), "");
  expect_end(*launcher, 0);
  EXPECT_THAT(
      launcher->output(),
      ContainsRegex("store: 127.0.0.1:[0-9]+ is no client of this store .its first bytes: 'GET / HT"));
  expect_the_undisturbed_result("run");
}

// Two nodes with different command lines: all end at once, for a restart would end the same way.
TEST_F(Starts, UnequalConfigurations) {
  run_undisturbed(2);
  begin_run();
  const auto node = [&](int rank, const Words& overrides) {
    return start(launching({"--nnodes", "2", "--nproc-per-node", "1", "--node-rank", std::to_string(rank),
                            "--master-addr", "127.0.0.1", "--master-port", port_, "--max-restarts", "1"},
                           "run", overrides));
  };
  const auto first = node(0, {}), second = node(1, {"optimizer.groups.0.lr=0.03"});
  for (Launcher* launcher : {first.get(), second.get()}) {
    expect_end(*launcher, 2);
    EXPECT_THAT(launcher->output(), AllOf(HasSubstr("rank 1 does not fit: found \"      lr: 0.03"),
                                          Not(HasSubstr("start again"))));
  }
  finish_run();
}

// Every rank reads the tokens from a disk of its own, as on machines that have their own copies.
class OwnDisks : public Starts {
 protected:
  OwnDisks() {
    std::string relative = yaml();
    const std::string folder = path("tokens").string() + "/";
    for (size_t at; (at = relative.find(folder)) != std::string::npos;) relative.erase(at, folder.size());
    put(path("config.yaml"), relative);
    for (const char* rank : {"0", "1"})
      std::filesystem::copy(path("tokens"), path(std::string("disk") + rank));
  }
  std::unique_ptr<Launcher> train(const std::string& run) const {
    const std::string script = "cd " + path("disk").string() + "$RANK && exec \"$@\"";
    return start(launching_script({"--nproc-per-node", "2"}, script, run));
  }
  // The same number of tokens in the same documents, but for one token; a whole shard by its checksum.
  void write_another_shard(const std::filesystem::path& path) const {
    const Shard shard(this->path("tokens") / "train-00000.bin");
    std::vector<int32_t> ids(shard.info().tokens);
    shard.read(0, ids.size(), ids.data());
    ids[ids.size() / 2] ^= 1;
    ShardWriter writer(path, shard.info().vocab_size, shard.info().tokenizer_hash);
    const std::span<const uint64_t> starts = shard.document_starts();
    for (size_t i = 0; i < starts.size(); ++i) {
      const uint64_t end = i + 1 < starts.size() ? starts[i + 1] : ids.size();
      writer.append(std::span(ids).subspan(starts[i], end - starts[i]), end - starts[i]);
      writer.end_document();
    }
    writer.close();
  }
};

TEST_F(OwnDisks, ADamagedShardOnOneRank) {
  const auto undisturbed = train("undisturbed");
  expect_end(*undisturbed, 0);
  begin_run();
  const std::filesystem::path shard = path("disk1") / "train-00000.bin";
  const std::string intact = read_file(shard);
  put(shard, intact.substr(0, intact.size() / 2));
  const auto truncated = train("run");
  expect_end(*truncated, 1);
  EXPECT_THAT(truncated->output(), HasSubstr("train-00000.bin is not a usable token shard"));
  EXPECT_THAT(truncated->output(), ContainsRegex("first failure: rank 1 \\(.+\\): exit code 1"));
  expect_unharmed();

  write_another_shard(shard);
  const auto other = train("run");
  expect_end(*other, 2);
  EXPECT_THAT(other->output(), HasSubstr("rank 1 does not fit: found \"data: "));
  expect_unharmed();

  put(shard, intact);
  const auto repaired = train("run");
  expect_end(*repaired, 0);
  expect_the_undisturbed_result("run");
}

}  // namespace
}  // namespace polar::test
