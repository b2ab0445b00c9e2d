// Collective operations between the ranks of a run. One process a device; `single` is the run of one rank.
#pragma once

#include <memory>
#include <span>

#include "tensor/tensor.h"

namespace polar {

// Every rank calls the same operations in the same order with the same shapes. Sums are taken in the order of
// the ranks, so that all ranks hold the same bits. Errors: Error naming the rank and the operation.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int world_size() const = 0;
  // Each element becomes its sum over all ranks. Host memory; done on return.
  virtual void all_reduce_sum(std::span<double> values) = 0;
  // The same for device memory (f32, f64), queued like an operation of Ops.
  virtual void all_reduce_sum(const Tensor& tensor) = 0;
  // Every rank gets the bytes of `root`'s tensor. Device memory, queued.
  virtual void broadcast(const Tensor& tensor, int root) = 0;
  // Returns once every rank has called it.
  virtual void barrier() = 0;
};

// The communicator of a run with one rank: rank 0 of 1, every collective is the identity.
std::unique_ptr<Communicator> make_single_communicator();

}  // namespace polar
