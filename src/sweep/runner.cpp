#include "sweep/runner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>

#include "base/file.h"
#include "base/log.h"
#include "launch/worker.h"
#include "report/progress.h"
#include "sweep/child.h"

namespace polar::sweep {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kSameRequest = 1.0;  // s, within which the same signal is the same request (train/signals.h)

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

// While it lives, the signals that a sweep acts on are blocked and fetched by next().
class Signals {
 public:
  Signals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGCHLD);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) {
      struct sigaction current {};
      sigaction(number, nullptr, &current);
      if (current.sa_handler != SIG_IGN) sigaddset(&set_, number);
    }
    sigprocmask(SIG_BLOCK, &set_, &before_);
  }
  ~Signals() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  // The next one, or 0 after `milliseconds`.
  int next(int milliseconds) const {
    const timespec wait{milliseconds / 1000, milliseconds % 1000 * 1'000'000L};
    const int number = sigtimedwait(&set_, nullptr, &wait);
    return std::max(number, 0);
  }

 private:
  sigset_t set_{}, before_{};
};

class Runner {
 public:
  Runner(const Definition& definition, const RunnerOptions& options, Results& results)
      : definition_(definition), options_(options), results_(results) {
    for (size_t p = 0; p < results_.points.size(); ++p)
      for (size_t s = 0; s < results_.points[p].size(); ++s)
        if (const State state = results_.points[p][s].state; state != State::done && state != State::diverged)
          waiting_.push_back({p, s});
    finished_ = definition_.runs() - waiting_.size();
    threads_ = options_.threads > 0 ? options_.threads : launch::default_threads(options_.jobs);
  }
  ~Runner() {
    for (const Running& job : running_) kill(job.pid, SIGKILL);
    for (const Running& job : running_) waitpid(job.pid, nullptr, 0);
  }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  ExitCode run() {
    log::info(
        "sweep      {} points x {} seeds = {} runs, {} of them finished before; {} at a time, {} threads "
        "each",
        definition_.points.size(), definition_.seeds, definition_.runs(), finished_, options_.jobs, threads_);
    save();
    while (!running_.empty() || (!waiting_.empty() && stop_ == 0)) {
      while (stop_ == 0 && !waiting_.empty() && running_.size() < static_cast<size_t>(options_.jobs))
        start_next();
      show();
      handle(signals_.next(1000));
      collect();
    }
    log::finish_progress();
    if (stop_ != 0 && !all_finished()) return ExitCode::stopped_by_signal;
    return all_finished() ? ExitCode::done : ExitCode::failed;
  }

 private:
  struct Job {
    size_t point, seed;  // indices
  };
  struct Running {
    Job job;
    pid_t pid;
    Clock::time_point begin;
    uintmax_t output_before;  // bytes that earlier processes of the run have written
  };

  RunResult& result(const Job& job) { return results_.points[job.point][job.seed]; }
  const Point& point(const Job& job) const { return definition_.points[job.point]; }
  uint64_t seed(const Job& job) const { return definition_.first_seed + job.seed; }
  bool all_finished() const { return finished_ == definition_.runs(); }

  void start_next() {
    const Job job = waiting_.front();
    waiting_.pop_front();
    const fs::path output = output_file(options_.directory, point(job), seed(job));
    std::error_code none;
    const uintmax_t before = fs::exists(output, none) ? fs::file_size(output, none) : 0;
    const std::vector<std::string> command{
        options_.binary,
        "train",
        (point_directory(options_.directory, point(job)) / "config.yaml").string(),
        "run.dir=" + run_directory(options_.directory, point(job), seed(job)).string(),
        fmt::format("run.name={} seed {}", point(job).name, seed(job)),
        fmt::format("run.seed={}", seed(job)),
        fmt::format("run.threads={}", threads_)};
    running_.push_back({job, start_process(command, output), Clock::now(), before});
  }

  void handle(int signal) {
    if (signal == 0 || signal == SIGCHLD) return;
    if (stop_ == 0) {
      stop_ = signal;
      stopped_ = Clock::now();
      log::info("{}: {} runs save and stop; again: they are killed", launch::signal_name(signal),
                running_.size());
      for (const Running& job : running_) kill(job.pid, SIGTERM);
    } else if (signal != stop_ || seconds_since(stopped_) > kSameRequest) {
      for (const Running& job : running_) kill(job.pid, SIGKILL);
    }
  }

  void collect() {
    for (size_t i = 0; i < running_.size();) {
      int status = 0;
      rusage used{};
      if (wait4(running_[i].pid, &status, WNOHANG, &used) != running_[i].pid) {
        ++i;
        continue;
      }
      const Running ended = running_[i];
      running_.erase(running_.begin() + static_cast<long>(i));
      result(ended.job).cpu_seconds += seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
      note(ended, launch::exit_code_of(status));
    }
  }

  void note(const Running& ended, int exit_code) {
    const Experiment& experiment = definition_.experiments[ended.job.point];
    RunResult& run = result(ended.job);
    const double seconds = seconds_since(ended.begin);
    run.seconds += seconds;
    run.message = words_of(ended);
    run.program = options_.program;
    read_run(run_directory(options_.directory, point(ended.job), seed(ended.job)), experiment.train.max_steps,
             experiment.batch.global_tokens, exit_code, run);
    if (stop_ != 0 && exit_code > 128) run.state = State::stopped;  // by our own SIGKILL
    if (run.state == State::done || run.state == State::diverged) ++finished_;
    if (run.state != State::stopped) {
      spent_ += seconds;
      ++ended_;
    }
    save();
    log::info("{}", line_of(ended.job, run, seconds));
  }

  std::string words_of(const Running& ended) const {
    const std::string all = read_file(output_file(options_.directory, point(ended.job), seed(ended.job)));
    return last_words(all.substr(std::min<size_t>(all.size(), ended.output_before)));
  }

  std::string line_of(const Job& job, const RunResult& run, double seconds) const {
    const std::string what = run.state == State::done ? fmt::format("validation loss {:.4f}", *run.val_loss)
                             : run.state == State::failed
                                 ? fmt::format("FAILED (exit code {}): {}", run.exit_code, run.message)
                                 : fmt::format("{} at step {}", name_of(run.state), run.steps);
    return fmt::format("[{}/{}] {} seed {}: {}  {}{}", finished_, definition_.runs(), point(job).name,
                       seed(job), what, human_duration(seconds), eta());
  }

  // From the mean time of the runs that this call has seen the end of.
  std::string eta() const {
    const size_t left = waiting_.size() + running_.size();
    if (ended_ == 0 || left == 0) return "";
    double begun = 0.0;
    for (const Running& job : running_) begun += seconds_since(job.begin);
    const double each = spent_ / static_cast<double>(ended_);
    const double work = std::max(0.0, each * static_cast<double>(left) - begun);
    return fmt::format("  ETA {}", human_duration(work / options_.jobs));
  }

  void show() const {
    if (!log::is_terminal()) return;
    std::string names;
    for (const Running& job : running_)
      names += fmt::format("{}{} seed {}", names.empty() ? "" : "; ", point(job.job).name, seed(job.job));
    log::progress(fmt::format("{}/{} runs finished{}  now: {}", finished_, definition_.runs(), eta(), names));
  }

  void save() const {
    write_file_atomically(options_.directory / kSweepFile, to_json(definition_, results_));
  }

  const Definition& definition_;
  const RunnerOptions& options_;
  Results& results_;
  Signals signals_;
  std::deque<Job> waiting_;
  std::vector<Running> running_;
  size_t finished_ = 0;  // done or diverged, earlier calls included
  size_t ended_ = 0;     // processes of this call that were not stopped
  double spent_ = 0.0;   // s, by these
  int threads_ = 1;
  int stop_ = 0;  // the signal that has come
  Clock::time_point stopped_{};
};

void check_same(const Definition& definition, const RunnerOptions& options) {
  const std::vector<std::string> different = differences(options.directory, definition, options.extend);
  if (different.empty()) return;
  fail_usage(
      "{} holds another sweep; before -> now:\n  {}\nCall it with the old arguments, or choose another "
      "--output. "
      "(--extend adds values and seeds.)",
      options.directory.string(), fmt::join(different, "\n  "));
}

// A run whose directory somebody has removed is to be done again.
void forget_lost_runs(const Definition& definition, const fs::path& directory, Results& results) {
  for (size_t p = 0; p < results.points.size(); ++p)
    for (RunResult& run : results.points[p])
      if (!fs::exists(run_directory(directory, definition.points[p], run.seed)))
        run = RunResult{.seed = run.seed,
                        .val_loss = {},
                        .bits_per_byte = {},
                        .step_seconds = {},
                        .message = {},
                        .program = {}};
}

}  // namespace

SweepLock::SweepLock(const fs::path& sweep) {
  std::error_code error;
  fs::create_directories(sweep, error);
  if (error) fail("cannot make the sweep's directory {}: {}", sweep.string(), error.message());
  const fs::path file = sweep / ".lock";
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT, 0644);  // not closed on exec: the runs hold it too
  if (descriptor_ < 0) fail("cannot open {}: is the directory writable?", file.string());
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  ::close(descriptor_);
  fail_usage(
      "another sweep is running in {}, or its runs have not ended yet: stop it, or choose another --output",
      sweep.string());
}

SweepLock::~SweepLock() {
  ::close(descriptor_);
}

Outcome run(const Definition& definition, const RunnerOptions& options) {
  const SweepLock lock(options.directory);
  check_same(definition, options);
  keep(options.directory, definition);
  Outcome outcome{.results = load_results(options.directory, definition)};
  forget_lost_runs(definition, options.directory, outcome.results);
  outcome.code = Runner(definition, options, outcome.results).run();
  return outcome;
}

}  // namespace polar::sweep
