// Collectives on host memory, over TCP.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace polar {

std::unique_ptr<Communicator> make_gloo_communicator(const ProcessGroup& group,
                                                     std::chrono::milliseconds timeout);

}  // namespace polar
