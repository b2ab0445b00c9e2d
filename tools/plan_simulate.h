// polartrain plan --simulate: a run on hardware that is not here.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"
#include "config/experiment.h"

namespace polar {

struct SimulateOptions {
  std::string hardware;    // file
  std::vector<int> ranks;  // empty: 1, 2, 4 ... 1024
  double efficiency = 0.9;
  bool json = false;
};

// Errors: those of load_hardware and of making the hardware's backend.
ExitCode print_simulation(const Experiment& experiment, const SimulateOptions& options);

}  // namespace polar
