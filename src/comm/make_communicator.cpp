#include "base/error.h"
#include "comm/communicator.h"

namespace polar {

std::unique_ptr<Communicator> make_communicator(const ProcessGroup& group, const CommOptions& options,
                                                Ops& ops) {
  if (options.backend != "auto" && options.backend != "gloo" && options.backend != "nccl")
    fail_usage("communicator: found backend '{}', expected auto, gloo or nccl", options.backend);
  if (group.world_size == 1) return make_single_communicator(ops);
  fail_usage("{}: several processes are not in this version", group.source);
}

}  // namespace polar
