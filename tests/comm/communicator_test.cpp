// The communicator of one rank: every collective is the identity.
#include "comm/communicator.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"

namespace polar::test {
namespace {

TEST(SingleCommunicator, IsTheIdentity) {
  const auto comm = make_single_communicator();
  EXPECT_EQ(comm->rank(), 0);
  EXPECT_EQ(comm->world_size(), 1);
  std::vector<double> values = {1.5, -2.0};
  const Tensor tensor{values.data(), DType::f64, {2}};
  comm->all_reduce_sum(values);
  comm->all_reduce_sum(tensor);
  comm->broadcast(tensor, 0);
  comm->barrier();
  EXPECT_EQ(values, (std::vector<double>{1.5, -2.0}));
  EXPECT_THROW(comm->broadcast(tensor, 1), Error);
}

}  // namespace
}  // namespace polar::test
