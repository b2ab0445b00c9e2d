// What the ranks of a run agree on before the first step.
#pragma once

#include <string>

#include "comm/communicator.h"
#include "comm/environment.h"
#include "train/run_directory.h"
#include "train/trainer.h"

namespace polar {

// Where to compute, on one of several ranks: GPUs and files by the rank's number.
DeviceOptions device_options(const Experiment& experiment, const ProcessGroup& group);
CommOptions comm_options(const Experiment& experiment);

// Rank 0 opens the run's directory, the others take what it found. If rank 0 fails, all fail with its
// message.
RunDirectory open_directory(const Experiment& experiment, const TrainOptions& options, Communicator& comm);

// Compares with rank 0 what has to be the same everywhere: the program's version, the configuration, the
// data, the sharding plan. Error (exit code 2) on every rank that names the rank and what differs.
void check_agreement(const Experiment& experiment, const std::string& program, const Trainer& trainer,
                     Communicator& comm);

// A text that all ranks share and no other start of the run has.
std::string start_token(Communicator& comm);

}  // namespace polar
