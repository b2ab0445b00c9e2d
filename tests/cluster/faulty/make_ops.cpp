// What `polartrain` is linked with to become `polartrain_faulty`: the CPU backend and Gloo, with a fault that
// strikes one rank at one place of one step. It is told by the environment, as
//
//   POLAR_TEST_FAULT="kill 1 backward 7"        ACTION RANK PLACE STEP; and perhaps another one after a ';'
//
//   actions  kill         SIGKILL to itself
//            exit         exit code 9
//            wait=FILE    goes on once the file exists
//            limit=BYTES  from now on no file of this process may grow beyond that, as on a full disk
//   places   start        before anything else (any step)
//            forward      the first attention of the step's forward pass, backward: of its backward pass
//            reduce       a bucket of gradients is under way, gather: a bucket of new parameters
//            write        the first bytes of a file of the step's checkpoint (which is left torn)
//            note         this rank's part of the checkpoint is written, but not yet announced (rank > 0)
//            publish      the whole checkpoint is written, but has its temporary name (rank 0)
//
// and only in the first attempt of a launcher.
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <list>
#include <sstream>
#include <thread>

#include "backend/cpu/cpu_ops.h"
#include "base/error.h"
#include "base/file.h"
#include "comm/communicator.h"
#include "comm/gloo.h"

namespace polar {
namespace {

class Fault {
 public:
  explicit Fault(const std::string& text) {
    int rank = 0;
    if (!(std::istringstream(text) >> action_ >> rank >> place_ >> step_))
      fail_usage("POLAR_TEST_FAULT: found '{}'", text);
    armed_ = process_group_from_environment().rank == rank;
  }
  void at(const char* place, int64_t step) {
    if (armed_ && place_ == place && step_ == step && armed_.exchange(false)) strike();
  }
  void before_file(std::string_view operation, const std::filesystem::path& path) {
    const std::string text = path.string(), step = fmt::format("step-{:08}", step_);
    if (!armed_ || text.find(step) == std::string::npos) return;
    if (place_ == "write" && operation == "write" && armed_.exchange(false)) {
      std::ofstream(path, std::ios::binary | std::ios::app) << "torn";
      strike();
    }
    const bool is_note = operation == "rename" && path.filename().string().starts_with("rank-");
    const bool is_whole = operation == "rename" && path.filename() == step;
    if (((place_ == "note" && is_note) || (place_ == "publish" && is_whole)) && armed_.exchange(false))
      strike();
  }

 private:
  void strike() const {
    std::fprintf(stderr, "fault: %s at %s of step %lld\n", action_.c_str(), place_.c_str(),
                 static_cast<long long>(step_));
    std::fflush(stderr);
    if (action_ == "kill") kill(getpid(), SIGKILL);
    if (action_ == "exit") _exit(9);
    if (action_.starts_with("wait="))
      while (!std::filesystem::exists(action_.substr(5)))
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (action_.starts_with("limit=")) {
      signal(SIGXFSZ, SIG_IGN);  // writing fails instead
      const rlim_t bytes = std::strtoull(action_.c_str() + 6, nullptr, 10);
      const rlimit limit{bytes, bytes};
      if (setrlimit(RLIMIT_FSIZE, &limit) != 0) fail("cannot set RLIMIT_FSIZE");
    }
  }

  std::string action_, place_;
  int64_t step_ = 0;
  std::atomic<bool> armed_ = false;
};

class Faults {
 public:
  Faults() {
    const char* text = std::getenv("POLAR_TEST_FAULT");
    const char* attempt = std::getenv("TORCHELASTIC_RESTART_COUNT");
    if (text == nullptr || (attempt != nullptr && std::atoi(attempt) > 0)) return;
    std::istringstream all(text);
    for (std::string each; std::getline(all, each, ';');) faults_.emplace_back(each);
    set_file_fault([this](std::string_view operation, const std::filesystem::path& path) {
      for (Fault& fault : faults_) fault.before_file(operation, path);
    });
  }

  // The optimizer has stepped.
  void step_done() { steps_done_ += 1; }
  // In the step that is being computed, or in what follows its update.
  void before_update(const char* place) { at(place, steps_done_ + 1); }
  void after_update(const char* place) { at(place, steps_done_); }
  void at(const char* place, int64_t step) {
    for (Fault& fault : faults_) fault.at(place, step);
  }

 private:
  std::list<Fault> faults_;
  std::atomic<int64_t> steps_done_ = 0;
};

Faults& faults() {
  static Faults faults;
  return faults;
}

class FaultyOps final : public cpu::CpuOps {
 public:
  using CpuOps::CpuOps;
  void attention_forward(const AttentionForward& args) override {
    faults().before_update("forward");
    CpuOps::attention_forward(args);
  }
  void attention_backward(const AttentionBackward& args) override {
    faults().before_update("backward");
    CpuOps::attention_backward(args);
  }
  void step_control(const StepControl& args) override {
    CpuOps::step_control(args);
    faults().step_done();
  }
};

class FaultyCommunicator final : public Communicator {
 public:
  explicit FaultyCommunicator(std::unique_ptr<Communicator> inner) : inner_(std::move(inner)) {}

  int rank() const override { return inner_->rank(); }
  int world_size() const override { return inner_->world_size(); }
  void all_reduce_sum(std::span<double> values) override { inner_->all_reduce_sum(values); }
  void broadcast(std::span<std::byte> bytes, int root) override { inner_->broadcast(bytes, root); }
  std::vector<std::string> all_gather_text(const std::string& own) override {
    return inner_->all_gather_text(own);
  }
  void barrier() override { inner_->barrier(); }
  std::unique_ptr<Mark> make_mark() override { return inner_->make_mark(); }
  void all_reduce_sum(const Tensor& tensor, std::string_view name, Mark& done) override {
    inner_->all_reduce_sum(tensor, name, done);
  }
  void reduce_scatter_sum(const Tensor& parts, const Tensor& own, std::string_view name,
                          Mark& done) override {
    inner_->reduce_scatter_sum(parts, own, name, done);
    faults().before_update("reduce");
  }
  void all_to_all(const Tensor& parts, const Tensor& arrived, std::string_view name, Mark& done) override {
    inner_->all_to_all(parts, arrived, name, done);
    faults().before_update("reduce");
  }
  void all_gather(const Tensor& parts, std::string_view name, Mark& done) override {
    inner_->all_gather(parts, name, done);
    faults().after_update("gather");
  }
  void broadcast(const Tensor& tensor, int root, std::string_view name, Mark& done) override {
    inner_->broadcast(tensor, root, name, done);
  }
  void check() override { inner_->check(); }
  Activity& activity() override { return inner_->activity(); }
  void give_up(const std::string& cause, ExitCode code) noexcept override { inner_->give_up(cause, code); }
  double wait_seconds() const override { return inner_->wait_seconds(); }
  uint64_t bytes_sent() const override { return inner_->bytes_sent(); }

 private:
  std::unique_ptr<Communicator> inner_;
};

}  // namespace

std::unique_ptr<Ops> make_ops(const DeviceOptions& options) {
  faults().at("start", 0);
  return std::make_unique<FaultyOps>(options.threads);
}

int count_gpus() {
  return 0;
}

std::unique_ptr<Communicator> make_communicator(const ProcessGroup& group, const CommOptions& options,
                                                Ops& ops) {
  if (group.world_size == 1) return make_single_communicator(ops);
  return std::make_unique<FaultyCommunicator>(make_gloo_communicator(group, options.timeout));
}

std::string describe_backends() {
  return "backends:\n  cpu, with faults for tests";
}

}  // namespace polar
