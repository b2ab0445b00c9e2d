// Collective operations between the ranks of a run. One process a device; `single` is the run of one rank,
// `gloo` works on host memory over TCP, `nccl` on the memory of GPUs.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "comm/activity.h"
#include "comm/environment.h"
#include "ops/ops.h"
#include "tensor/tensor.h"

namespace polar {

// Every rank calls the same operations in the same order with the same shapes, from one thread. Each
// operation ends within the timeout, or fails with an Error that names the operation, its `name`, this rank,
// the peer and the cause as far as they are known, and where all ranks were last seen (exit code `hung` if it
// is the time that was over); after that every further call fails at once with that cause. Sums: each element
// is the sum over the ranks in the order of the ranks (nccl: in an order that depends on the number of ranks
// and the shapes alone), in its own type (bf16: in f32, rounded once); all ranks hold the same bits, and so
// does every repetition.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  // --- values of the host, in place, done on return ---
  // Each element becomes its sum over all ranks.
  virtual void all_reduce_sum(std::span<double> values) = 0;
  // Every rank gets the bytes of `root`.
  virtual void broadcast(std::span<std::byte> bytes, int root) = 0;
  // The texts of all ranks, in their order; each may have its own length.
  virtual std::vector<std::string> all_gather_text(const std::string& own) = 0;
  // Returns once every rank has called it.
  virtual void barrier() = 0;

  // --- memory of the device ---
  // Carried out one after the other in the order of the calls (with those above), beside the queue of Ops:
  // each begins after everything that was queued on Ops before the call, and sets `done` when its results are
  // there. Until then nobody may touch the tensors, and `done` must live; wait with done.wait() (an Error if
  // the operation failed) or queue behind it with Ops::follow. Tensors: f32, f64, bf16. `name`, such as
  // "bucket 3", is for messages.
  virtual std::unique_ptr<Mark> make_mark() = 0;
  virtual void all_reduce_sum(const Tensor& tensor, std::string_view name, Mark& done) = 0;
  // parts (N, count), N = world_size: row r is this rank's share of rank r's sum. own (count) = the sum of
  // the ranks' row `rank()`; may be that row of parts. The other rows of parts may be overwritten.
  virtual void reduce_scatter_sum(const Tensor& parts, const Tensor& own, std::string_view name,
                                  Mark& done) = 0;
  // parts (N, count): row r is for rank r. arrived (N, count): row r = what rank r had for this one, this
  // rank's own row included. The two must not overlap.
  virtual void all_to_all(const Tensor& parts, const Tensor& arrived, std::string_view name, Mark& done) = 0;
  // parts (N, count): row rank() is filled on entry, all on exit.
  virtual void all_gather(const Tensor& parts, std::string_view name, Mark& done) = 0;
  virtual void broadcast(const Tensor& tensor, int root, std::string_view name, Mark& done) = 0;

  // Throws the Error of a failed operation on memory of the device, if there is one: what such an operation
  // has left is not to be used, though marks are reached.
  virtual void check() {}

  // Where this rank is: for the others, should it hang. The operations tell of themselves.
  virtual Activity& activity() { return activity_; }
  // This rank cannot go on: leaves the reason for the others, unless one of them has done so before.
  virtual void give_up(const std::string& /*cause*/, ExitCode /*code*/) noexcept {}
  // For how long this rank's computation has waited for operations so far (on a GPU: for those on its memory,
  // as far as they are done), in seconds. Asking waits for nothing.
  virtual double wait_seconds() const { return 0.0; }

  // What this rank has sent so far in the operations on memory of the device, in bytes of elements.
  virtual uint64_t bytes_sent() const = 0;

 private:
  Activity activity_;
};

// The communicator of a run with one rank: rank 0 of 1, every collective is the identity. `ops` must outlive
// it.
std::unique_ptr<Communicator> make_single_communicator(Ops& ops);

struct CommOptions {
  std::chrono::milliseconds timeout = std::chrono::seconds(300);  // of each operation and of the rendezvous
  std::string backend = "auto";                                   // "auto", "gloo", "nccl"
};

// Meets the other ranks and returns once all are there. `ops` must outlive the communicator. Errors: the
// backend does not go with the device (exit code 2); not all ranks came within the timeout (which did not);
// another rank has another world size.
std::unique_ptr<Communicator> make_communicator(const ProcessGroup& group, const CommOptions& options,
                                                Ops& ops);

}  // namespace polar
