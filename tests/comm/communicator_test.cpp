// The communicator of one rank: every collective is the identity.
#include "comm/communicator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "errors.h"

namespace polar::test {
namespace {

TEST(SingleCommunicator, IsTheIdentity) {
  const auto ops = make_ops({"cpu", 1});
  const auto comm = make_communicator({}, {}, *ops);
  EXPECT_EQ(comm->rank(), 0);
  EXPECT_EQ(comm->world_size(), 1);
  std::vector<double> values = {1.5, -2.0}, own(2);
  const Tensor tensor{values.data(), DType::f64, {2}}, parts{values.data(), DType::f64, {1, 2}};
  const auto done = comm->make_mark();
  comm->all_reduce_sum(values);
  comm->broadcast(std::as_writable_bytes(std::span(values)), 0);
  EXPECT_EQ(comm->all_gather_text("one"), std::vector<std::string>{"one"});
  comm->all_reduce_sum(tensor, "loss", *done);
  comm->reduce_scatter_sum(parts, tensor, "bucket 0", *done);
  comm->reduce_scatter_sum(parts, {own.data(), DType::f64, {2}}, "bucket 1", *done);
  std::vector<double> arrived(2);
  comm->all_to_all(parts, {arrived.data(), DType::f64, {1, 2}}, "bucket 0", *done);
  EXPECT_EQ(arrived, values);
  comm->all_gather(parts, "bucket 0", *done);
  comm->broadcast(tensor, 0, "weights", *done);
  comm->barrier();
  ops->follow(*done);
  EXPECT_TRUE(done->reached());
  EXPECT_EQ(values, (std::vector<double>{1.5, -2.0}));
  EXPECT_EQ(own, values);
  EXPECT_EQ(comm->bytes_sent(), 0U);
  EXPECT_THROW(comm->broadcast(tensor, 1, "weights", *done), Error);
}

TEST(SingleCommunicator, UnknownBackend) {
  const auto ops = make_ops({"cpu", 1});
  const Error error = error_of([&] { make_communicator({}, {.backend = "mpi"}, *ops); });
  EXPECT_EQ(error.code(), ExitCode::bad_usage);
  EXPECT_THAT(error.what(), testing::HasSubstr("'mpi', expected auto, gloo or nccl"));
}

}  // namespace
}  // namespace polar::test
