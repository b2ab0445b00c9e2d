// When a checkpoint is taken, when it is written, and what happens if that fails.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/store.h"
#include "comm/communicator.h"
#include "config/experiment.h"
#include "train/trainer.h"

namespace polar {

// A snapshot of step s is written only once step s + 1 has been applied: only then are its weights known to
// give a sane loss. So a step that ruins the weights never leaves a checkpoint. The last snapshot of a run
// has no such step and is written at once, if its weights are finite.
//
// A save that fails in the middle of a run is logged and the run goes on; the checkpoints before it stand.
// Several ranks save together: what one could not write none has saved, and none ends before all have.
class Saver {
 public:
  // `saved_step`: the checkpoint that the run continues from, -1 for none. `part`: of several ranks. All
  // references must outlive it.
  Saver(const Experiment& experiment, const std::filesystem::path& run, Trainer& trainer, Communicator& comm,
        std::vector<SmallFile> files, int64_t saved_step, CheckpointPart part = {});

  // Copies the state of the trainer, to be written when confirm() is called. `best`: the step has the lowest
  // validation loss so far.
  void take(bool best);
  // The step after the last snapshot was applied: writes that snapshot, in the background if so configured.
  void confirm();
  // Writes the state of the trainer now, unless it is on the disk already, and waits. Errors: the save
  // failed, on whichever rank; the weights are not finite (exit code stopped_by_guard).
  void save_last(bool best);

  // Waits for a save under way, if there is one.
  void finish() { wait(); }

  // Newest step that is known to be on the disk; -1: none.
  int64_t saved_step() const { return saved_step_; }

 private:
  void write();
  void wait();
  void await_writers(bool of_first);
  std::string outcome();
  std::string own_outcome();
  void check_finite();

  const Experiment& experiment_;
  std::filesystem::path run_;
  Trainer& trainer_;
  Communicator& comm_;
  std::vector<SmallFile> files_;
  CheckpointPart part_;
  std::optional<CheckpointWriter::Request> pending_;
  CheckpointWriter writer_;
  int64_t saved_step_, saves_ = 0;
  RunProgress writing_,
      confirmed_;  // counters of the snapshot that is being written, and of the last one written
};

}  // namespace polar
