// The checkpoints of a run: a directory a step, complete and verified or not there at all.
//
//   RUN/checkpoints/step-00000100/
//     model.safetensors       weights by their Hugging Face names
//     optimizer.safetensors   "adamw.m:model.norm.weight", ...; names of the caller
//     state.json              step, tokens, seed, data position, ...
//     ...                     small files of the caller (config.json, tokenizer)
//     manifest.json           size and XXH3-128 of each of them
//
// Written by N processes, it has model-0000i-of-0000N.safetensors (and optimizer-...) of rank i - 1 and an
// index (model.safetensors.index.json) as Hugging Face has it; every process sees the same file system. Until
// rank 0 has them, the files of the others lie in ".step-00000100.parts".
//
// Saving follows base/atomic_directory.h: everything goes to ".step-00000100.tmp", the manifest last, every
// file and the directory flushed, then one rename. A crash at any byte leaves all earlier checkpoints as they
// were. Saving a step that exists already replaces it (the run may have gone back, or gone another way
// since). `recover` puts things right after a crash in between.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/safetensors.h"

namespace polar {

struct SmallFile {
  std::string name;  // a plain file name
  std::string content;
};

// One process's share of a checkpoint that several write: the tensors that it gives are written by it, into
// files named after it; rank 0 gives everything else, gathers the files and puts the checkpoint in place.
struct CheckpointPart {
  int rank = 0, world_size = 1;
  std::string token;             // the same on all ranks and different in every start of the run
  double timeout_seconds = 600;  // how long rank 0 waits for the files of the others
  const std::atomic<bool>* give_up = nullptr;  // once it is true rank 0 does not wait for them any longer
};

// What a checkpoint holds. The tensors are views of host memory that must not change while it is written.
struct CheckpointContent {
  std::vector<NamedTensor> model;
  std::vector<NamedTensor> optimizer;  // none: no optimizer.safetensors
  nlohmann::json state;                // null: no state.json
  std::vector<SmallFile> files;
  CheckpointPart part;
  std::optional<DType> floats_as;  // the type of the weights in model.safetensors; default: as they are
};

struct Problem {
  std::string file;  // name inside the directory
  std::string reason;
};

std::filesystem::path checkpoints_dir(const std::filesystem::path& run);
std::filesystem::path checkpoint_dir(const std::filesystem::path& run, int64_t step);
// The steps that have a directory, valid or not, ascending.
std::vector<int64_t> list_steps(const std::filesystem::path& run);

// Writes a checkpoint directory at `dir` (any name) by the rules above; replaces what was there.
void write_checkpoint(const std::filesystem::path& dir, const CheckpointContent& content);
// write_checkpoint to checkpoint_dir(run, step), which it returns.
std::filesystem::path save_checkpoint(const std::filesystem::path& run, int64_t step,
                                      const CheckpointContent& content);

// Compares every file with the manifest, by size and checksum. Empty: valid.
std::vector<Problem> verify(const std::filesystem::path& dir);
std::string describe(const std::vector<Problem>& problems);  // "model.safetensors: ...; state.json: ..."

struct FoundCheckpoint {
  int64_t step = 0;
  std::filesystem::path dir;
};
// The newest checkpoint that verifies. A broken one is named in a warning and skipped, never deleted.
// Nothing: the run has no checkpoint. Error: it has some, and none verifies. Changes nothing on the disk.
std::optional<FoundCheckpoint> latest_valid(const std::filesystem::path& run);

// What the user named: a checkpoint directory (verified if it has a manifest; an HF directory has none), or a
// run's directory, which stands for its latest valid checkpoint. Error if it is neither.
std::filesystem::path resolve_checkpoint(const std::filesystem::path& path);

// state.json of a checkpoint directory.
nlohmann::json read_state(const std::filesystem::path& dir);

// Clears what a crash left behind (see above). Call it once at start, before anything is saved.
// Returns a line for each thing that was done.
std::vector<std::string> recover(const std::filesystem::path& run);

struct Retention {
  int64_t keep_last = 3;         // 0: keep all
  int64_t keep_every = 0;        // also every step divisible by this; 0: none
  std::optional<int64_t> best;   // also this step
  std::optional<int64_t> saved;  // the step just saved: known to be valid, always kept
};
// Which of `steps` (ascending) the rules give up. Pure.
std::vector<int64_t> steps_to_delete(const std::vector<int64_t>& steps, const Retention& retention);
// Deletes them, but never the only valid checkpoint. Returns the steps that were deleted.
std::vector<int64_t> apply_retention(const std::filesystem::path& run, const Retention& retention);

// Saves in the background. The caller has copied everything into host buffers of its own and leaves them
// alone until wait() has returned.
class CheckpointWriter {
 public:
  struct Request {
    std::filesystem::path run;
    int64_t step = 0;
    CheckpointContent content;
    Retention retention;  // applied after the save; `saved` is filled in
  };

  CheckpointWriter() = default;
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;
  // Waits, but only a moment for the parts of other ranks, which may be gone. An error that nobody asked for
  // is logged.
  ~CheckpointWriter();

  // Hands over to a thread; waits for the save before it first (and so may throw that one's error, in which
  // case the new one has not been started).
  void start(Request request);
  // Returns when no save is under way. Throws the Error of a failed one ("saving checkpoint step 100: ..."),
  // once; the checkpoints before it stand.
  void wait();
  bool busy() const { return thread_.joinable(); }
  bool done() const { return done_; }  // of a save that was begun: whether wait() would not wait
  // Parts of other ranks that are not there yet will not come: the save under way fails.
  void give_up() { give_up_ = true; }

 private:
  std::thread thread_;
  std::exception_ptr error_;
  std::atomic<bool> done_ = false, give_up_ = false;
};

// The same without a thread. A save that succeeded stays a success if older checkpoints cannot be deleted:
// that is a warning, and the next save tries again.
void save_and_retain(const CheckpointWriter::Request& request);

}  // namespace polar
