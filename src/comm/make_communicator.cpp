#include "base/error.h"
#include "comm/communicator.h"
#include "comm/gloo.h"

namespace polar {

std::unique_ptr<Communicator> make_communicator(const ProcessGroup& group, const CommOptions& options,
                                                Ops& ops) {
  const std::string& backend = options.backend;
  if (backend != "auto" && backend != "gloo" && backend != "nccl")
    fail_usage("communicator: found backend '{}', expected auto, gloo or nccl", backend);
  if (group.world_size == 1) return make_single_communicator(ops);
  if (!ops.host_memory())
    fail_usage(
        "{} processes on {}: several GPUs are not in this version; expected one process, or the device cpu",
        group.world_size, ops.device_name());
  if (backend == "nccl")
    fail_usage("communicator: nccl works on the memory of GPUs, and the device is {}; expected gloo or auto",
               ops.device_name());
  return make_gloo_communicator(group, options.timeout);
}

}  // namespace polar
