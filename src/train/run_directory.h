// A run's directory: opened for one process at a time, its configuration kept and compared on resume.
//
//   config.yaml  the resolved configuration      log.txt        what was said
//   metrics.jsonl  a line a logged step          tensorboard/   event files
//   attention-engines.txt  what attention.engine=auto has chosen (CUDA)
//   checkpoints/step-00000100/                   sample.txt, report.html, loss.png at the end
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "checkpoint/store.h"
#include "config/experiment.h"

namespace polar {

struct TrainOptions {
  bool fresh = false;          // put an existing run aside (renamed, not deleted) and start at step 0
  bool change_config = false;  // resume although keys that decide about the result have changed
  std::string program;         // version and commit: what ranks compare
};

// The exclusive lock on a run's directory, held by the process that trains there.
class FileLock {
 public:
  explicit FileLock(const std::filesystem::path& run);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_;
};

class RunDirectory {
 public:
  // Makes or opens experiment.run.dir and locks it. Errors: exit code 2 if another process trains there, or
  // if the run was started with another configuration (the differing keys are named); exit code 1 from the
  // file system.
  RunDirectory(const Experiment& experiment, const TrainOptions& options);
  // Of the other ranks of a run, after rank 0 has opened it: looks at nothing, locks nothing. `checkpoint` is
  // rank 0's.
  RunDirectory(const Experiment& experiment, std::optional<FoundCheckpoint> checkpoint)
      : path_(experiment.run.dir), checkpoint_(std::move(checkpoint)) {}

  // Writes config.yaml: the configuration that the run goes on with.
  void keep_configuration(const Experiment& experiment) const;
  const std::filesystem::path& path() const { return path_; }
  // The checkpoint to continue from; none: a new run.
  const std::optional<FoundCheckpoint>& checkpoint() const { return checkpoint_; }

 private:
  void check_configuration(const Experiment& experiment, const TrainOptions& options) const;

  std::filesystem::path path_;
  std::unique_ptr<FileLock> lock_;
  std::optional<FoundCheckpoint> checkpoint_;
};

}  // namespace polar
