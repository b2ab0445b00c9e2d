// Chooses the communicator that goes with the device.
#include "base/error.h"
#include "comm/communicator.h"
#include "comm/gloo.h"
#ifdef POLAR_HAVE_NCCL
#include "backend/cuda/nccl_communicator.h"
#endif

namespace polar {
namespace {

std::unique_ptr<Communicator> make_nccl(const ProcessGroup& group, std::chrono::milliseconds timeout,
                                        Ops& ops) {
#ifdef POLAR_HAVE_NCCL
  if (auto* cuda_ops = dynamic_cast<cuda::CudaOps*>(&ops))
    return cuda::make_nccl_communicator(group, timeout, *cuda_ops);
#endif
  fail_usage(
      "{} processes on {}: this binary was built without NCCL (nccl.h was not found when it was "
      "configured); expected one process, or the device cpu",
      group.world_size, timeout.count() >= 0 ? ops.device_name() : "");
}

}  // namespace

std::unique_ptr<Communicator> make_communicator(const ProcessGroup& group, const CommOptions& options,
                                                Ops& ops) {
  const std::string& backend = options.backend;
  if (backend != "auto" && backend != "gloo" && backend != "nccl")
    fail_usage("communicator: found backend '{}', expected auto, gloo or nccl", backend);
  if (group.world_size == 1) return make_single_communicator(ops);
  if (!ops.host_memory()) {
    if (backend == "gloo")
      fail_usage(
          "communicator: gloo works on the memory of the host, and the device is {}; expected nccl or auto",
          ops.device_name());
    return make_nccl(group, options.timeout, ops);
  }
  if (backend == "nccl")
    fail_usage("communicator: nccl works on the memory of GPUs, and the device is {}; expected gloo or auto",
               ops.device_name());
  return make_gloo_communicator(group, options.timeout);
}

}  // namespace polar
