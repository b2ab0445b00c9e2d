// Collectives on the memory of GPUs, by NCCL on a stream of their own. Values of the host go over Gloo,
// beside.
#pragma once

#include <chrono>
#include <memory>

#include "backend/cuda/cuda_ops.h"
#include "comm/communicator.h"

namespace polar::cuda {

// Errors: as make_communicator; NCCL is not there, or cannot connect the GPUs within the timeout.
// The timeout of an operation runs from when the device has come to it: it may have been queued long before.
// A failed or late one ends NCCL's communicator: the
// stream goes on with memory whose contents are no result, marks are reached, and their wait, like every
// further call of the communicator, throws the cause.
std::unique_ptr<Communicator> make_nccl_communicator(const ProcessGroup& group,
                                                     std::chrono::milliseconds timeout, CudaOps& ops);

}  // namespace polar::cuda
