// One rank: nothing to reduce, nobody to wait for.
#include "base/error.h"
#include "comm/communicator.h"

namespace polar {
namespace {

class SingleCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  void all_reduce_sum(std::span<double>) override {}
  void all_reduce_sum(const Tensor&) override {}
  void broadcast(const Tensor&, int root) override {
    if (root != 0) fail("broadcast from rank {}: this run has one rank, 0", root);
  }
  void barrier() override {}
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
  return std::make_unique<SingleCommunicator>();
}

}  // namespace polar
