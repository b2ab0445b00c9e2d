// What happens to the ranks when one of them dies, stops, does something else, or never comes: an error that
// says so, in time, on every rank that is left.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>

#include "comm/communicator.h"
#include "ranks.h"

namespace polar::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;
using Clock = std::chrono::steady_clock;

std::unique_ptr<Communicator> connect(const ProcessGroup& group, std::chrono::milliseconds timeout) {
  static const std::unique_ptr<Ops> ops = make_ops({"cpu", 1});
  return make_communicator(group, {.timeout = timeout}, *ops);
}

// Reduces without end, in two operations at a time, and says on standard output when it has begun.
void reduce_forever(Communicator& comm) {
  std::vector<float> a(200000, 1.0f), b(30, 1.0f);
  const auto first = comm.make_mark(), second = comm.make_mark();
  for (int i = 0;; ++i) {
    comm.all_reduce_sum({a.data(), DType::f32, {200000}}, "bucket 3", *first);
    comm.all_reduce_sum({b.data(), DType::f32, {30}}, "loss", *second);
    if (i == 5) std::printf("reducing\n");
    try {
      first->wait();
      second->wait();
    } catch (const Error& error) {
      std::printf("failed: %s\n", error.what());
      // Every further call fails at once, with the same cause.
      const auto begin = Clock::now();
      std::string again;
      try {
        comm.barrier();
      } catch (const Error& later) {
        again = later.what();
      }
      if (again.find("barrier on rank") == std::string::npos ||
          again.find("not begun: all-reduce") == std::string::npos || Clock::now() - begin > 1s)
        std::printf("and then: %s\n", again.c_str());
      else
        throw;
    }
  }
}

void expect_named(const Ranks& processes, int rank, const std::string& peer) {
  EXPECT_THAT(processes.output(rank),
              AllOf(HasSubstr("error: all-reduce ("), AnyOf(HasSubstr("bucket 3"), HasSubstr("loss")),
                    HasSubstr("on rank " + std::to_string(rank) + " ("), HasSubstr(peer + " ("),
                    AnyOf(HasSubstr("closed by"), HasSubstr("reset by")), HasSubstr("process ")))
      << "rank " << rank;
}

TEST(Fault, AKilledPeerIsNamedByAll) {
  const uint16_t port = free_port();
  constexpr int kRanks = 4;
  Ranks processes(kRanks, [&](int rank) {
    const auto comm = connect(local_group(rank, kRanks, port), 40s);
    reduce_forever(*comm);
  });
  for (int rank = 0; rank < kRanks; ++rank) ASSERT_TRUE(processes.wait_for(rank, "reducing"));
  processes.send(2, SIGKILL);
  const auto begin = Clock::now();
  for (const int rank : {0, 1, 3}) {
    EXPECT_EQ(processes.wait(rank), 1) << processes.output(rank);
    expect_named(processes, rank, "rank 2");
  }
  EXPECT_LT(Clock::now() - begin, 10s);  // not the timeout
}

TEST(Fault, TheRankWithTheStoreIsKilled) {
  const uint16_t port = free_port();
  Ranks processes(3, [&](int rank) {
    const auto comm = connect(local_group(rank, 3, port), 40s);
    reduce_forever(*comm);
  });
  for (int rank = 0; rank < 3; ++rank) ASSERT_TRUE(processes.wait_for(rank, "reducing"));
  processes.send(0, SIGKILL);
  const auto begin = Clock::now();
  for (const int rank : {1, 2}) {
    EXPECT_EQ(processes.wait(rank), 1);
    EXPECT_THAT(processes.output(rank), HasSubstr("error: all-reduce ("));
  }
  EXPECT_THAT(processes.output(1) + processes.output(2), HasSubstr("rank 0 ("));
  EXPECT_LT(Clock::now() - begin, 15s);
}

TEST(Fault, AStoppedPeerIsAnErrorAfterTheTimeout) {
  const uint16_t port = free_port();
  Ranks processes(3, [&](int rank) {
    const auto comm = connect(local_group(rank, 3, port), 2s);
    reduce_forever(*comm);
  });
  for (int rank = 0; rank < 3; ++rank) ASSERT_TRUE(processes.wait_for(rank, "reducing"));
  const auto begin = Clock::now();
  processes.send(1, SIGSTOP);
  for (const int rank : {0, 2}) EXPECT_EQ(processes.wait(rank), 1);
  EXPECT_GT(Clock::now() - begin, 1900ms);
  EXPECT_LT(Clock::now() - begin, 15s);
  EXPECT_THAT(processes.output(0) + processes.output(2),
              AllOf(HasSubstr("rank 1 ("), HasSubstr("nothing within 2 s")));
  // The stopped one finds the others gone when it goes on.
  processes.send(1, SIGCONT);
  EXPECT_EQ(processes.wait(1), 1);
}

TEST(Fault, AnotherOperationOnOneRankIsATimeoutNotACrash) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) {
    const auto comm = connect(local_group(rank, 2, port), 1s);
    std::vector<float> values(100);
    const auto done = comm->make_mark();
    comm->all_reduce_sum({values.data(), DType::f32, {rank == 0 ? 100 : 50}}, "bucket 0", *done);
    done->wait();
  });
  for (const int rank : {0, 1}) {
    EXPECT_EQ(processes.wait(rank), 1);
    EXPECT_THAT(processes.output(rank), AnyOf(HasSubstr("called another operation"), HasSubstr("closed")));
  }
}

TEST(Fault, ARankThatLeavesWithWorkUnderWayIsNoHang) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) {
    std::vector<float> values(100);
    const Tensor tensor{values.data(), DType::f32, {100}};
    auto comm = connect(local_group(rank, 2, port), 40s);
    const auto done = comm->make_mark(), last = comm->make_mark();
    if (rank == 1) std::this_thread::sleep_for(300ms);
    if (rank == 0) {
      comm->all_reduce_sum(tensor, "bucket 0", *done);
      comm->all_reduce_sum(tensor, "bucket 1", *last);
      std::this_thread::sleep_for(50ms);
      comm.reset();
      EXPECT_THROW(done->wait(), Error);
      EXPECT_THROW(last->wait(), Error);
    } else {
      comm->all_reduce_sum(tensor, "bucket 0", *done);
      done->wait();
    }
  });
  EXPECT_EQ(processes.wait(0), 0) << processes.output(0);
  EXPECT_EQ(processes.wait(1), 1);
  EXPECT_THAT(processes.output(1), HasSubstr("rank 0 ("));
}

TEST(Rendezvous, ARankThatDoesNotComeIsNamed) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) { connect(local_group(rank == 0 ? 0 : 2, 4, port), 1s); });
  for (const int rank : {0, 1}) EXPECT_EQ(processes.wait(rank), 1);
  EXPECT_THAT(processes.output(0), AllOf(HasSubstr("rank 1, 3 of 4 did not come"), HasSubstr("1 s")));
}

TEST(Rendezvous, UnequalWorldSizes) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) { connect(local_group(rank, rank == 0 ? 2 : 3, port), 20s); });
  for (const int rank : {0, 1}) {
    EXPECT_EQ(processes.wait(rank), 1);
    EXPECT_THAT(processes.output(rank), AllOf(HasSubstr("has world size"), HasSubstr("other ranks have")));
  }
}

TEST(Rendezvous, ARankThatIsThereTwice) {
  const uint16_t port = free_port();
  Ranks processes(3, [&](int rank) { connect(local_group(rank == 0 ? 0 : 1, 3, port), 20s); });
  for (const int rank : {0, 1, 2}) {
    EXPECT_EQ(processes.wait(rank), 1);
    EXPECT_THAT(processes.output(rank), HasSubstr("rank 1 is there twice"));
  }
}

TEST(Rendezvous, ATakenPort) {
  const StoreServer other(0, "another run");
  Ranks processes(1, [&](int) { connect(local_group(0, 2, other.port()), 5s); });
  EXPECT_EQ(processes.wait(0), 1);
  EXPECT_THAT(processes.output(0), AllOf(HasSubstr("MASTER_PORT=" + std::to_string(other.port())),
                                         HasSubstr("another process uses it")));
}

TEST(Rendezvous, AnotherRunsStore) {
  const StoreServer other(0, "another run");
  Ranks processes(1, [&](int) { connect(local_group(1, 2, other.port()), 5s); });
  EXPECT_EQ(processes.wait(0), 1);
  EXPECT_THAT(processes.output(0), HasSubstr("belongs to another run"));
}

TEST(Rendezvous, AWrongMasterAddress) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) {
    ProcessGroup group = local_group(1, 2, port);
    group.master_addr = rank == 0 ? "127.0.0.1" : "no-such-host.invalid";
    connect(group, 500ms);
  });
  EXPECT_EQ(processes.wait(0), 1);
  EXPECT_THAT(processes.output(0),
              AllOf(HasSubstr("127.0.0.1:" + std::to_string(port)), HasSubstr("refused")));
  EXPECT_EQ(processes.wait(1), 1);
  EXPECT_THAT(processes.output(1), HasSubstr("'no-such-host.invalid' cannot be resolved"));
}

void add_ranks(Communicator& comm, int ranks) {
  std::vector<double> sum{1.0};
  comm.all_reduce_sum(sum);
  EXPECT_EQ(sum[0], ranks);
  comm.barrier();
}

TEST(Rendezvous, ByNameByIpv6AndAgainAfterARestart) {
  const Socket v6(socket(AF_INET6, SOCK_STREAM, 0));
  for (const std::string host : {"localhost", "::1"}) {
    if (host == "::1" && !v6) continue;
    const uint16_t port = free_port();
    for (int restart = 0; restart < 2; ++restart) {
      Ranks processes(2, [&](int rank) {
        ProcessGroup group = local_group(rank, 2, port);
        group.master_addr = host;
        group.restart_count = restart;
        add_ranks(*connect(group, 20s), 2);
      });
      processes.expect_all_good();
    }
  }
}

TEST(Rendezvous, ALauncherThatHoldsTheStore) {
  const StoreServer server(0, "test");
  for (int restart = 0; restart < 2; ++restart) {
    Ranks processes(2, [&](int rank) {
      ProcessGroup group = local_group(rank, 2, server.port());
      group.host_store = true;
      group.restart_count = restart;
      add_ranks(*connect(group, 20s), 2);
    });
    processes.expect_all_good();
  }
}

TEST(Rendezvous, BesideTorchrunsOwnStore) {  // which holds the port and speaks another protocol
  const Socket torchrun = listen_on(0);
  const uint16_t port = port_of(torchrun.get());
  if (port > 65500) GTEST_SKIP() << "no ports behind " << port;
  Ranks processes(3, [&](int rank) {
    ProcessGroup group = local_group(rank, 3, port);
    group.port_is_held = true;
    add_ranks(*connect(group, 20s), 3);
  });
  processes.expect_all_good();
}

TEST(Rendezvous, GpusNeedAnotherBackend) {
  const auto ops = make_ops({"cpu", 1});
  try {
    make_communicator(local_group(0, 2, 1), {.backend = "nccl"}, *ops);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::bad_usage);
    EXPECT_THAT(error.what(), HasSubstr("expected gloo or auto"));
  }
}

}  // namespace
}  // namespace polar::test
