// A run's directory: opened for one process at a time, its configuration kept and compared on resume.
//
//   config.yaml  the resolved configuration      log.txt        what was said
//   metrics.jsonl  a line a logged step          tensorboard/   event files
//   checkpoints/step-00000100/                   sample.txt, report.html, loss.png at the end
#pragma once

#include <filesystem>
#include <optional>

#include "checkpoint/store.h"
#include "config/experiment.h"

namespace polar {

struct TrainOptions {
  bool fresh = false;          // put an existing run aside (renamed, not deleted) and start at step 0
  bool change_config = false;  // resume although keys that decide about the result have changed
};

class RunDirectory {
 public:
  // Makes or opens experiment.run.dir and locks it. Errors: exit code 2 if another process trains there, or
  // if the run was started with another configuration (the differing keys are named); exit code 1 from the
  // file system.
  RunDirectory(const Experiment& experiment, const TrainOptions& options);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }
  // The checkpoint to continue from; none: a new run.
  const std::optional<FoundCheckpoint>& checkpoint() const { return checkpoint_; }

 private:
  void lock();
  void check_configuration(const Experiment& experiment, const TrainOptions& options) const;

  std::filesystem::path path_;
  int lock_ = -1;
  std::optional<FoundCheckpoint> checkpoint_;
};

}  // namespace polar
