#include "train/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

namespace polar {
namespace {

namespace fs = std::filesystem;

// What the state in a checkpoint is bound to: sizes, and the position in the data.
constexpr const char* kFixedKeys[] = {"model.", "batch.global_tokens", "data.sequence_length",
                                      "guard.window"};

// runs/demo -> runs/demo.old-1, the first number that is free.
void put_aside(const fs::path& path) {
  for (int n = 1;; ++n) {
    const fs::path old = path.string() + fmt::format(".old-{}", n);
    if (fs::exists(old)) continue;
    rename_durably(path, old);
    log::info("the earlier run was put aside as {}", old.string());
    return;
  }
}

// `polartrain launch` starts a run again after a failure, with the same command line: --fresh is for its
// first attempt, the others continue what that one began.
constexpr const char* kFreshFile = ".fresh";  // holds the id of the launch that began this run with --fresh

// The agent of torchrun, which starts all attempts: where it keeps its workers' errors, a folder that it has
// made for this run. Or else the process that has started this one, as no other will ever be.
std::string torchrun_agent() {
  if (const char* file = std::getenv("TORCHELASTIC_ERROR_FILE"))
    return std::string(file).substr(0, std::string_view(file).find("/attempt_"));
  std::ifstream in(fmt::format("/proc/{}/stat", getppid()));
  std::string stat{std::istreambuf_iterator<char>(in), {}};
  stat.erase(0, stat.rfind(')') + 1);  // its name, which may hold anything
  std::istringstream words(stat);
  std::string word, started;
  for (int field = 3; field <= 22 && words >> word; ++field) started = word;  // the last: since the boot
  char host[256] = "?";
  gethostname(host, sizeof host - 1);
  return fmt::format("{} {} {}", host, getppid(), started);
}

// What all attempts of a launch have in common, and no other launch has; empty without a launcher.
std::string launch_id() {
  const char* id = std::getenv("TORCHELASTIC_RUN_ID");
  if (id == nullptr) return "";
  // torchrun's default is the same for all its runs. (Its --rdzv-id names one.)
  return std::string_view(id) == "none" ? fmt::format("none {}", torchrun_agent()) : id;
}

bool was_begun_by_this_launch(const fs::path& run) {
  const char* restarts = std::getenv("TORCHELASTIC_RESTART_COUNT");
  const bool restart = restarts != nullptr && std::atoi(restarts) > 0 && !launch_id().empty();
  return restart && fs::exists(run / kFreshFile) && read_file(run / kFreshFile) == launch_id();
}

}  // namespace

FileLock::FileLock(const fs::path& run) {
  const fs::path file = run / ".lock";
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor_ < 0) fail("cannot open {}: is the directory writable?", file.string());
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  ::close(descriptor_);
  fail_usage("another process is training in {}: stop it, or choose another run.dir", run.string());
}

FileLock::~FileLock() {
  ::close(descriptor_);
}

RunDirectory::RunDirectory(const Experiment& experiment, const TrainOptions& options)
    : path_(experiment.run.dir) {
  std::error_code error;
  if (fs::exists(path_) && !fs::is_directory(path_))
    fail_usage("run.dir: {} exists and is not a directory", path_.string());
  fs::create_directories(path_, error);
  if (error) fail("cannot make the run's directory {}: {}", path_.string(), error.message());
  lock_ = std::make_unique<FileLock>(path_);
  if (options.fresh && !was_begun_by_this_launch(path_)) {
    if (fs::exists(path_ / "config.yaml") || fs::exists(checkpoints_dir(path_))) {
      put_aside(path_);
      fs::create_directories(path_);
      lock_ = std::make_unique<FileLock>(path_);
    }
    if (!launch_id().empty()) write_file_atomically(path_ / kFreshFile, launch_id());
  }
  for (const std::string& line : recover(path_)) log::info("{}", line);
  checkpoint_ = latest_valid(path_);
  if (checkpoint_) check_configuration(experiment, options);
}

void RunDirectory::keep_configuration(const Experiment& experiment) const {
  write_file_atomically(path_ / "config.yaml", to_yaml(experiment));
}

void RunDirectory::check_configuration(const Experiment& experiment, const TrainOptions& options) const {
  const Experiment before = load_experiment(checkpoint_->dir / "config.yaml", {});
  if (config_hash(before) == config_hash(experiment)) return;
  std::string keys, fixed;
  for (const std::string& difference : differences(before, experiment, Compare::result_keys)) {
    keys += "\n  " + difference;
    for (const char* prefix : kFixedKeys)
      if (difference.starts_with(prefix)) fixed += "\n  " + difference;
  }
  if (options.change_config && !fixed.empty())
    fail_usage(
        "the run in {} cannot continue with other values of{}\n"
        "Start a new run from its weights instead: train.init_from={}",
        path_.string(), fixed, checkpoint_->dir.string());
  if (!options.change_config)
    fail_usage(
        "the run in {} was started with another configuration:{}\n"
        "Continue with the old values, take --change-config to continue with the new ones, --fresh to\n"
        "start again, or another run.dir.",
        path_.string(), keys);
  log::warning("continuing with a changed configuration:{}", keys);
}

}  // namespace polar
