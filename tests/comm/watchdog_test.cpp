// A rank that hangs, wherever it hangs, is found and named, and no rank waits for it for ever.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "comm/communicator.h"
#include "comm/whereabouts.h"
#include "ranks.h"

namespace polar::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::Not;
using Lane = Activity::Lane;

constexpr int kHung = static_cast<int>(ExitCode::hung);

TEST(Activity, TravelsAsBytes) {
  Activity activity;
  activity.at(12, "forward and backward");
  activity.begin(Lane::host, 3, "all-reduce");
  activity.end(Lane::host, 3);
  activity.begin(Lane::device, 41, "reduce-scatter (gradients)");
  std::this_thread::sleep_for(20ms);
  const std::string bytes = encode(activity.state());
  const auto state = decode_activity(bytes);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->step, 12);
  EXPECT_EQ(state->phase, "forward and backward");
  EXPECT_EQ(state->bound, Activity::Bound::timeout);
  EXPECT_GE(state->phase_age, 0.02);
  EXPECT_GE(state->progress_age, 0.02);
  EXPECT_EQ(state->operations[0].begun, 3u);
  EXPECT_FALSE(state->operations[0].waits());
  EXPECT_EQ(state->operations[1].begun, 41u);
  EXPECT_EQ(state->operations[1].name, "reduce-scatter (gradients)");
  EXPECT_TRUE(state->operations[1].waits());
  activity.moved();
  EXPECT_LT(activity.state().progress_age, activity.state().phase_age);
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(decode_activity(bytes.substr(0, size))) << size;
  EXPECT_FALSE(decode_activity(bytes + "x"));
}

// A rank in step 12 that has begun and done so many operations.
Sighting sighting(int rank, double silent, uint64_t begun, uint64_t done, double age = 0.5) {
  Sighting made{rank, "rank " + std::to_string(rank) + " (host, process 1)", silent, {}};
  made.state.step = 12;
  made.state.phase = "update";
  made.state.bound = Activity::Bound::timeout;
  made.state.phase_age = made.state.progress_age = age;
  made.state.operations[0] = {begun, done, "all-reduce (loss)", age};
  return made;
}

TEST(Whereabouts, WhoIsBehind) {
  const auto behind = [](const std::vector<Sighting>& ranks) { return find_behind(ranks, 3.0, 10.0); };
  EXPECT_THAT(behind({sighting(0, 0.1, 8, 8), sighting(1, 0.9, 8, 8)}), IsEmpty());
  // All are in the operation: none of them is behind.
  EXPECT_THAT(behind({sighting(0, 0.1, 9, 8), sighting(1, 0.9, 9, 8)}), IsEmpty());
  // Two wait, one has not come.
  EXPECT_THAT(behind({sighting(0, 0.1, 9, 8), sighting(1, 0.9, 8, 8), sighting(2, 0, 9, 8)}), ElementsAre(1));
  // One gives no sign of life: that says more.
  EXPECT_THAT(behind({sighting(0, 0.1, 9, 8), sighting(1, 0.9, 8, 8), sighting(2, 4, 9, 8)}), ElementsAre(2));
  // Nobody waits: who does not get on.
  EXPECT_THAT(behind({sighting(0, 0.1, 8, 8), sighting(1, 0.9, 8, 8, 11)}), ElementsAre(1));
  // What counts is the operation that has been waited in for longest.
  std::vector<Sighting> two{sighting(0, 0.1, 9, 8, 5), sighting(1, 0.1, 8, 8, 2)};
  two[1].state.operations[1] = {4, 3, "all-gather", 1.0};
  EXPECT_THAT(behind(two), ElementsAre(1));
  two[1].state.operations[1].age = 6.0;
  EXPECT_THAT(behind(two), ElementsAre(0));
}

TEST(Whereabouts, InWords) {
  std::vector<Sighting> ranks;
  for (int rank = 0; rank < 6; ++rank) ranks.push_back(sighting(rank, 0.2, 9, 8, 2.0 + 0.1 * rank));
  ranks[3] = sighting(3, 12.34, 8, 8, 0.4);
  ranks[5].state.phase = "waiting for data";
  ranks[5].state.operations[0] = {8, 8, "all-reduce (loss)", 1.0};
  EXPECT_EQ(
      whereabouts(ranks, 3.0, 10.0),
      "\n  rank 3 (host, process 1) is behind: no sign of life for 12.3 s; last seen in step 12, update, "
      "for 0.4 s, after operation 8, all-reduce (loss)"
      "\n  ranks 0-2, 4: step 12, update, for 2.0 to 2.4 s, in operation 9, all-reduce (loss), for 2.0 "
      "to 2.4 s"
      "\n  rank 5 (host, process 1): step 12, waiting for data, for 2.5 s, after operation 8, all-reduce "
      "(loss)");
}

TEST(Store, GivesValuesWithTheirAge) {
  const StoreServer server(0, "run");
  StoreClient client("localhost", server.port(), "run", 5s);
  client.set("beat/1", "old");
  std::this_thread::sleep_for(50ms);
  client.set("beat/2", "new");
  client.set("other", "x");
  const std::vector<StoreClient::Entry> values = client.values("beat/");
  ASSERT_EQ(values.size(), 2u);
  EXPECT_EQ(values[0].key, "beat/1");
  EXPECT_EQ(values[0].value, "old");
  EXPECT_GE(values[0].age, 50ms);
  EXPECT_EQ(values[1].value, "new");
  EXPECT_LE(values[1].age, values[0].age - 50ms);
}

// The exit code is that of the error, as in the command.
Ranks::Body with_codes(const std::function<void(Communicator&)>& body, int ranks, uint16_t port,
                       std::chrono::milliseconds timeout) {
  return [=](int rank) {
    try {
      const auto ops = make_ops({"cpu", 1});
      const auto comm = make_communicator(local_group(rank, ranks, port), {.timeout = timeout}, *ops);
      body(*comm);
    } catch (const Error& error) {
      std::printf("error: %s\n", error.what());
      _exit(static_cast<int>(error.code()));
    }
  };
}

void hang() {
  for (;;) pause();
}

// Steps without end, of an all-reduce each; says "stepping" once it goes.
void step_forever(Communicator& comm, int hangs_rank = -1) {
  std::vector<float> values(1000);
  const auto done = comm.make_mark();
  for (int step = 1;; ++step) {
    comm.activity().at(step, "forward and backward");
    if (step == 10) std::printf("stepping\n");
    if (step == 10 && comm.rank() == hangs_rank) hang();
    comm.all_reduce_sum({values.data(), DType::f32, {1000}}, "loss", *done);
    done->wait();
  }
}

TEST(Watchdog, ARankThatHangsOutsideOfAllOperationsIsNamedAndEnded) {
  Ranks processes(3, with_codes([](Communicator& comm) { step_forever(comm, 1); }, 3, free_port(), 2s));
  for (const int rank : {0, 2}) {
    EXPECT_EQ(processes.wait(rank), kHung) << processes.output(rank);
    EXPECT_THAT(
        processes.output(rank),
        MatchesRegex(
            "(.|\n)*\n  rank 1 \\([^)]*\\) is behind: step 10, forward and backward, for [0-9]\\.[0-9] "
            "s, after operation 9, all-reduce \\(loss\\)(.|\n)*"));
    EXPECT_THAT(processes.output(rank), HasSubstr("\n  ranks 0, 2: step 10, forward and backward, for "));
    EXPECT_THAT(processes.output(rank), HasSubstr("in operation 10, all-reduce (loss), for "));
  }
  // The one that hangs ends by its own watchdog, though nobody sends it a signal.
  EXPECT_EQ(processes.wait(1), kHung) << processes.output(1);
  EXPECT_THAT(processes.output(1),
              AllOf(HasSubstr("the run has failed, and rank 1 ("),
                    HasSubstr("does not end by itself (step 10, forward and backward, for ")));
}

TEST(Watchdog, RanksThatAllHangOutsideOfOperationsAreEnded) {
  Ranks processes(2, with_codes(
                         [](Communicator& comm) {
                           comm.barrier();
                           comm.activity().at(7, "waiting for data");
                           hang();
                         },
                         2, free_port(), 1s));
  for (const int rank : {0, 1}) {
    EXPECT_EQ(processes.wait(rank), kHung);
    // (Whoever sees the hang a moment after the other was told by it, and ends after it.)
    EXPECT_THAT(
        processes.output(rank),
        AllOf(HasSubstr("the run hangs: rank 0 ("), HasSubstr("no progress: step 7, waiting for data, for "),
              HasSubstr("after operation 1, barrier (and 1 more); the timeout is 1 s"),
              HasSubstr("\n  ranks 0-1 are behind: step 7, waiting for data, for ")));
  }
}

TEST(Watchdog, APhaseWithoutABoundMayLast) {
  Ranks processes(2, with_codes(
                         [](Communicator& comm) {
                           comm.activity().at(7, "saving", Activity::Bound::none);
                           std::this_thread::sleep_for(4s);
                           comm.activity().at(7, "validation");
                           for (int i = 0; i < 40; ++i) {
                             std::this_thread::sleep_for(100ms);
                             comm.activity().moved();
                           }
                           comm.barrier();
                         },
                         2, free_port(), 1s));
  processes.expect_all_good();
}

TEST(Watchdog, AStoppedRankGivesNoSignOfLife) {
  Ranks processes(3, with_codes([](Communicator& comm) { step_forever(comm); }, 3, free_port(), 2s));
  for (int rank = 0; rank < 3; ++rank) ASSERT_TRUE(processes.wait_for(rank, "stepping"));
  std::this_thread::sleep_for(1s);  // a few heartbeats
  processes.send(1, SIGSTOP);
  for (const int rank : {0, 2}) EXPECT_EQ(processes.wait(rank), kHung) << processes.output(rank);
  EXPECT_THAT(processes.output(0),
              MatchesRegex(
                  "(.|\n)*\n  rank 1 \\([^)]*\\) is behind: no sign of life for [0-9.]+ s; last seen in step "
                  "[0-9]+, forward and backward, for (.|\n)*"));
  // When it goes on it finds the others gone, and rank 0 with the store.
  processes.send(1, SIGCONT);
  EXPECT_NE(processes.wait(1), 0);
}

TEST(Watchdog, TheRankWithTheStoreIsStopped) {
  Ranks processes(3, with_codes([](Communicator& comm) { step_forever(comm); }, 3, free_port(), 2s));
  for (int rank = 0; rank < 3; ++rank) ASSERT_TRUE(processes.wait_for(rank, "stepping"));
  std::this_thread::sleep_for(1s);  // a few heartbeats
  processes.send(0, SIGSTOP);
  for (const int rank : {1, 2}) {
    EXPECT_EQ(processes.wait(rank), kHung) << processes.output(rank);
    EXPECT_THAT(processes.output(rank), HasSubstr("step "));
    EXPECT_THAT(processes.output(rank), HasSubstr("no sign of life for "));
  }
}

TEST(Watchdog, AStoreThatDoesNotAnswerEndsARankThatWaitsForNothing) {
  Ranks processes(2, with_codes(
                         [](Communicator& comm) {
                           comm.barrier();
                           std::printf("there\n");
                           for (;;) {
                             comm.activity().at(5, "forward and backward");
                             std::this_thread::sleep_for(50ms);
                           }
                         },
                         2, free_port(), 1s));
  for (int rank = 0; rank < 2; ++rank) ASSERT_TRUE(processes.wait_for(rank, "there"));
  std::this_thread::sleep_for(500ms);
  processes.send(0, SIGSTOP);
  EXPECT_EQ(processes.wait(1), kHung);
  EXPECT_THAT(processes.output(1), AllOf(HasSubstr("the run's store at 127.0.0.1:"),
                                         HasSubstr(", in rank 0 ("), HasSubstr("has not answered for ")));
}

TEST(Watchdog, AKilledRankIsNoHangAndAllAreToldWhereItWas) {
  Ranks processes(3, with_codes([](Communicator& comm) { step_forever(comm); }, 3, free_port(), 30s));
  for (int rank = 0; rank < 3; ++rank) ASSERT_TRUE(processes.wait_for(rank, "stepping"));
  std::this_thread::sleep_for(1500ms);
  processes.send(2, SIGKILL);
  for (const int rank : {0, 1}) {
    EXPECT_EQ(processes.wait(rank), static_cast<int>(ExitCode::failed));
    EXPECT_THAT(processes.output(rank), AllOf(HasSubstr("rank 2 ("), HasSubstr("\n  rank"),
                                              HasSubstr("step "), HasSubstr("forward and backward, for ")));
  }
}

TEST(Watchdog, WhatARankGivesUpForIsToldByAll) {
  Ranks processes(3, with_codes(
                         [](Communicator& comm) {
                           if (comm.rank() == 1) {
                             comm.barrier();
                             comm.give_up("rank 1: tokens/train-00003.bin is damaged", ExitCode::bad_usage);
                             throw Error("damaged", ExitCode::bad_usage);
                           }
                           comm.barrier();
                           step_forever(comm);
                         },
                         3, free_port(), 30s));
  for (const int rank : {0, 1, 2}) EXPECT_EQ(processes.wait(rank), 2) << processes.output(rank);
  for (const int rank : {0, 2})
    EXPECT_THAT(processes.output(rank),
                HasSubstr("(reported first: rank 1: tokens/train-00003.bin is damaged)"));
}

TEST(Watchdog, ARunThatEndsInOrderSaysNothing) {
  Ranks processes(2, with_codes(
                         [](Communicator& comm) {
                           comm.barrier();
                           comm.activity().at(0, "report", Activity::Bound::none);
                           // The one that leaves first is not missed by the other.
                           if (comm.rank() == 0) std::this_thread::sleep_for(4s);
                         },
                         2, free_port(), 1s));
  processes.expect_all_good();
  for (const int rank : {0, 1}) EXPECT_THAT(processes.output(rank), Not(HasSubstr("error")));
}

}  // namespace
}  // namespace polar::test
