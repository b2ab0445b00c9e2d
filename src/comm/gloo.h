// Collectives on host memory, over TCP.
#pragma once

#include <memory>

#include "comm/communicator.h"

namespace polar {

class Watchdog;

class HostCommunicator : public Communicator {
 public:
  // Of this rank: for whoever carries out operations beside this communicator's.
  virtual Watchdog& watchdog() = 0;
};

std::unique_ptr<HostCommunicator> make_gloo_communicator(const ProcessGroup& group,
                                                         std::chrono::milliseconds timeout);

}  // namespace polar
