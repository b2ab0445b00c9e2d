// The NCCL communicator of the CUDA backend, on emulated GPUs: real processes, the backend's own code, and
// NCCL's calls carried out over Gloo (tests/emulated_nccl).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstring>

#include "comm/communicator.h"
#include "comm/ranks.h"

namespace polar::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

// A rank's device, communicator and memory.
class Rank {
 public:
  Rank(int rank, int ranks, uint16_t port, std::chrono::milliseconds timeout = 30s)
      : ops(make_ops({.device = "cuda"})),
        comm(make_communicator(local_group(rank, ranks, port), {.timeout = timeout}, *ops)) {}
  ~Rank() {
    comm.reset();
    for (void* memory : memory_) ops->release(memory);
  }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  Tensor tensor(DType dtype, Shape shape) {
    memory_.push_back(ops->allocate(static_cast<size_t>(shape.count()) * size_of(dtype)));
    return {memory_.back(), dtype, shape};
  }
  // Filled with small whole numbers, of which every format holds the sums exactly.
  Tensor filled(DType dtype, Shape shape, int rank) {
    Tensor made = tensor(dtype, shape);
    std::vector<std::byte> bytes(made.bytes());
    for (int64_t i = 0; i < made.count(); ++i) {
      const double value = value_of(rank, i);
      const auto at = static_cast<size_t>(i);
      const auto single = static_cast<float>(value);
      const auto half = static_cast<uint16_t>(std::bit_cast<uint32_t>(single) >> 16);
      if (dtype == DType::f64) std::memcpy(&bytes[at * 8], &value, 8);
      if (dtype == DType::f32) std::memcpy(&bytes[at * 4], &single, 4);
      if (dtype == DType::bf16) std::memcpy(&bytes[at * 2], &half, 2);
    }
    ops->upload(made, bytes.data());
    return made;
  }
  std::vector<double> values(const Tensor& x) {
    std::vector<std::byte> bytes(x.bytes());
    ops->download(bytes.data(), x);
    std::vector<double> result(static_cast<size_t>(x.count()));
    for (size_t i = 0; i < result.size(); ++i) {
      float single = 0;
      uint16_t half = 0;
      if (x.dtype == DType::f64) std::memcpy(&result[i], &bytes[i * 8], 8);
      if (x.dtype == DType::f32) std::memcpy(&single, &bytes[i * 4], 4), result[i] = single;
      if (x.dtype == DType::bf16)
        std::memcpy(&half, &bytes[i * 2], 2), result[i] = std::bit_cast<float>(uint32_t{half} << 16);
    }
    return result;
  }
  static double value_of(int rank, int64_t i) {
    return static_cast<double>((i * (rank + 3) + rank) % 13 - 6);
  }
  static double sum_of(int ranks, int64_t i) {
    double sum = 0;
    for (int r = 0; r < ranks; ++r) sum += value_of(r, i);
    return sum;
  }

  std::unique_ptr<Ops> ops;
  std::unique_ptr<Communicator> comm;

 private:
  std::vector<void*> memory_;
};

// Lazy streams do nothing before something waits for them: what forgets to wait for another stream is wrong.
void use_streams(bool lazy) {
  setenv("EMULATOR_LAZY", lazy ? "1" : "0", 1);
}

class Nccl : public testing::TestWithParam<std::tuple<int, bool>> {};
INSTANTIATE_TEST_SUITE_P(RanksAndLazy, Nccl, testing::Combine(testing::Values(2, 3, 4), testing::Bool()));
class NcclOrder : public testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(Lazy, NcclOrder, testing::Bool());

void check_collectives(Rank& self, DType dtype, int64_t count) {
  const int rank = self.comm->rank(), ranks = self.comm->world_size();
  const auto done = self.comm->make_mark();
  const uint64_t before = self.comm->bytes_sent();
  const auto size = static_cast<uint64_t>(count) * size_of(dtype), peers = static_cast<uint64_t>(ranks - 1);

  const Tensor sums = self.filled(dtype, {count}, rank);
  self.comm->all_reduce_sum(sums, "sums", *done);
  const Tensor parts = self.filled(dtype, {ranks, count}, rank), own = parts.slice(rank * count, {count});
  const Tensor other_parts = self.filled(dtype, {ranks, count}, rank), apart = self.tensor(dtype, {count});
  self.comm->reduce_scatter_sum(parts, own, "parts", *done);
  self.comm->reduce_scatter_sum(other_parts, apart, "other parts", *done);
  const Tensor rows = self.filled(dtype, {ranks, count}, rank), arrived = self.tensor(dtype, {ranks, count});
  self.comm->all_to_all(rows, arrived, "rows", *done);
  const Tensor weights = self.filled(dtype, {count}, rank);
  self.comm->broadcast(weights, ranks - 1, "weights", *done);
  self.ops->follow(*done);  // no wait of the host: what follows is queued
  const std::vector<double> reduced = self.values(own), reduced_apart = self.values(apart);
  self.comm->all_gather(parts, "parts", *done);
  done->wait();
  EXPECT_TRUE(done->reached());
  const std::vector<double> summed = self.values(sums), sent = self.values(weights), all = self.values(parts);
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(i);
    ASSERT_EQ(summed[at], Rank::sum_of(ranks, i));
    ASSERT_EQ(reduced[at], Rank::sum_of(ranks, rank * count + i));
    ASSERT_EQ(reduced_apart[at], reduced[at]);
    ASSERT_EQ(sent[at], Rank::value_of(ranks - 1, i));
  }
  for (int64_t i = 0; i < ranks * count; ++i) ASSERT_EQ(all[static_cast<size_t>(i)], Rank::sum_of(ranks, i));
  const std::vector<double> rows_arrived = self.values(arrived);
  for (int r = 0; r < ranks; ++r)
    for (int64_t i = 0; i < count; ++i)
      ASSERT_EQ(rows_arrived[static_cast<size_t>(r * count + i)], Rank::value_of(r, rank * count + i));
  const uint64_t broadcast = rank == ranks - 2 ? 0 : size;  // the last of the chain
  EXPECT_EQ(self.comm->bytes_sent() - before,
            2 * peers * size / static_cast<uint64_t>(ranks) + 4 * peers * size + broadcast);
}

TEST_P(Nccl, EveryCollective) {
  const auto [ranks, lazy] = GetParam();
  const uint16_t port = free_port();
  Ranks processes(ranks, [&, ranks = ranks, lazy = lazy](int rank) {
    use_streams(lazy);
    Rank self(rank, ranks, port);
    EXPECT_EQ(self.comm->rank(), rank);
    EXPECT_EQ(self.comm->world_size(), ranks);
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16})
      for (const int64_t count : {1, 3, 1001}) check_collectives(self, dtype, count);
    std::vector<double> values{1.0, 2.0 * rank};
    self.comm->all_reduce_sum(values);
    EXPECT_EQ(values, (std::vector<double>{double(ranks), ranks * (ranks - 1.0)}));
    EXPECT_EQ(self.comm->all_gather_text("rank " + std::to_string(rank)).back(),
              "rank " + std::to_string(ranks - 1));
    self.comm->barrier();
  });
  processes.expect_all_good();
}

// Work of the device, a collective, work on its result: no wait of the host between, far more in flight than
// the watch's table holds.
TEST_P(NcclOrder, StandsInTheOrderOfTheDevice) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) {
    use_streams(GetParam());
    Rank self(rank, 2, port);
    const Tensor x = self.tensor(DType::f32, {100});
    const auto done = self.comm->make_mark();
    self.ops->fill(x, 1.0);
    for (int i = 0; i < 1100; ++i) {
      self.ops->scale(x, i % 2 == 0 ? 1.0 : 0.25);
      self.comm->all_reduce_sum(x, "bucket", *done);
      self.ops->follow(*done);
    }
    done->wait();
    for (const double value : self.values(x)) ASSERT_EQ(value, 1.0);
    self.comm->barrier();
  });
  processes.expect_all_good();
}

void reduce_forever(Rank& self) {
  const Tensor x = self.tensor(DType::f32, {5000});
  self.ops->fill(x, 0.0);
  const auto done = self.comm->make_mark();
  for (int i = 0;; ++i) {
    self.comm->all_reduce_sum(x, "bucket 3", *done);
    if (i == 5) std::printf("reducing\n");
    done->wait();
  }
}

TEST(NcclFault, AKilledPeerIsAnErrorOfAll) {
  const uint16_t port = free_port();
  Ranks processes(3, [&](int rank) {
    Rank self(rank, 3, port, 40s);
    reduce_forever(self);
  });
  for (int rank = 0; rank < 3; ++rank) ASSERT_TRUE(processes.wait_for(rank, "reducing"));
  processes.send(1, SIGKILL);
  for (const int rank : {0, 2}) {
    EXPECT_EQ(processes.wait(rank), 1) << processes.output(rank);
    EXPECT_THAT(
        processes.output(rank),
        AllOf(HasSubstr("error: all-reduce (bucket 3) on rank " + std::to_string(rank)), HasSubstr("rank ")));
  }
}

TEST(NcclFault, AStoppedPeerIsAnErrorAfterTheTimeout) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) {
    Rank self(rank, 2, port, 2s);
    reduce_forever(self);
  });
  for (int rank = 0; rank < 2; ++rank) ASSERT_TRUE(processes.wait_for(rank, "reducing"));
  processes.send(1, SIGSTOP);
  EXPECT_EQ(processes.wait(0), 1);
  EXPECT_THAT(processes.output(0),
              AllOf(HasSubstr("all-reduce (bucket 3) on rank 0"), HasSubstr("not done within 2 s")));
}

// A step may be queued ahead of the device: while that has other work an operation is not late.
TEST(NcclFault, AnOperationHasItsTimeFromWhenTheDeviceHasComeToIt) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) {
    use_streams(true);  // nothing is done before the host waits for it
    Rank self(rank, 2, port, 1s);
    const Tensor x = self.tensor(DType::f32, {100});
    const auto done = self.comm->make_mark();
    self.ops->fill(x, 1.0);
    self.comm->all_reduce_sum(x, "bucket", *done);
    std::this_thread::sleep_for(1800ms);
    done->wait();
    for (const double value : self.values(x)) ASSERT_EQ(value, 2.0);
    self.comm->barrier();
  });
  processes.expect_all_good();
}

// Measured by events of the device around its wait for the operation.
TEST(NcclWaiting, IsThatForTheRankWhichIsLate) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) {
    use_streams(true);
    Rank self(rank, 2, port);
    const Tensor x = self.tensor(DType::f32, {100});
    const auto done = self.comm->make_mark();
    self.comm->barrier();
    for (int i = 0; i < 3; ++i) {
      if (rank == 1) std::this_thread::sleep_for(200ms);
      self.ops->fill(x, 1.0);
      self.comm->all_reduce_sum(x, "bucket", *done);
      self.ops->follow(*done);
      self.ops->synchronize();
    }
    const double waited = self.comm->wait_seconds();
    EXPECT_TRUE(rank == 0 ? waited > 0.4 : waited < 0.3) << waited;
    self.comm->barrier();
  });
  processes.expect_all_good();
}

TEST(NcclFault, WrongUseIsAnErrorAtOnce) {
  const uint16_t port = free_port();
  Ranks processes(2, [&](int rank) {
    Rank self(rank, 2, port);
    const Tensor six = self.tensor(DType::f32, {6}), ids = self.tensor(DType::i32, {6});
    const auto done = self.comm->make_mark(), foreign = self.ops->make_mark();
    EXPECT_THROW(self.comm->all_reduce_sum(six, "x", *foreign), Error);
    EXPECT_THROW(self.comm->all_reduce_sum(ids, "x", *done), Error);
    EXPECT_THROW(self.comm->reduce_scatter_sum(six, six.slice(0, {2}), "x", *done), Error);
    EXPECT_THROW(self.comm->all_to_all(six.slice(0, {4}), six.slice(4, {2}), "x", *done), Error);
    EXPECT_THROW(self.comm->all_to_all(six.slice(0, {4}), six.slice(2, {4}), "x", *done), Error);
    EXPECT_THROW(self.comm->all_to_all(six.slice(0, {3}), six.slice(3, {3}), "x", *done), Error);
    EXPECT_THROW(self.comm->broadcast(six, 2, "x", *done), Error);
    EXPECT_THROW(make_communicator(local_group(rank, 2, port), {.backend = "gloo"}, *self.ops), Error);
    self.comm->barrier();
  });
  processes.expect_all_good();
}

}  // namespace
}  // namespace polar::test
