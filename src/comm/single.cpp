// One rank: nothing to reduce, nobody to wait for.
#include "base/error.h"
#include "comm/communicator.h"

namespace polar {
namespace {

class SingleCommunicator final : public Communicator {
 public:
  explicit SingleCommunicator(Ops& ops) : ops_(ops) {}
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  void all_reduce_sum(std::span<double>) override {}
  void broadcast(std::span<std::byte>, int root) override { check_root(root); }
  std::vector<std::string> all_gather_text(const std::string& own) override { return {own}; }
  void barrier() override {}

  std::unique_ptr<Mark> make_mark() override { return ops_.make_mark(); }
  void all_reduce_sum(const Tensor&, std::string_view, Mark& done) override { ops_.set(done); }
  void reduce_scatter_sum(const Tensor& parts, const Tensor& own, std::string_view, Mark& done) override {
    if (parts.data != own.data) ops_.copy(parts.slice(0, own.shape), own);
    ops_.set(done);
  }
  void all_to_all(const Tensor& parts, const Tensor& arrived, std::string_view, Mark& done) override {
    ops_.copy(parts, arrived);
    ops_.set(done);
  }
  void all_gather(const Tensor&, std::string_view, Mark& done) override { ops_.set(done); }
  void broadcast(const Tensor&, int root, std::string_view, Mark& done) override {
    check_root(root);
    ops_.set(done);
  }
  uint64_t bytes_sent() const override { return 0; }

 private:
  static void check_root(int root) {
    if (root != 0) fail("broadcast from rank {}: this run has one rank, 0", root);
  }
  Ops& ops_;
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator(Ops& ops) {
  return std::make_unique<SingleCommunicator>(ops);
}

}  // namespace polar
