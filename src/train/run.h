// A whole training run with its directory: resume, loop, evaluation, checkpoints, signals, the end report.
#pragma once

#include "base/error.h"
#include "config/experiment.h"
#include "train/run_directory.h"

namespace polar {

// Trains as the experiment says, from the latest valid checkpoint of its directory if there is one.
// Returns done, stopped_by_signal (after saving) or stopped_by_guard; throws Error otherwise.
ExitCode train(const Experiment& experiment, const TrainOptions& options);

}  // namespace polar
