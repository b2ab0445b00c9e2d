// One thread carries the operations out, in the order of the calls. It owns the connections.
#include "comm/gloo.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "base/error.h"
#include "comm/host_collectives.h"
#include "comm/host_mark.h"
#include "comm/quiet_thread.h"
#include "comm/rendezvous.h"
#include "comm/watchdog.h"

namespace polar {
namespace {

class GlooCommunicator final : public HostCommunicator {
 public:
  GlooCommunicator(const ProcessGroup& group, std::chrono::milliseconds timeout) : group_(group) {
    HostMark ready(waited_);
    ready.arm();
    thread_ = quiet_thread([this, timeout, &ready] { run(timeout, ready); });
    try {
      ready.wait();
    } catch (...) {
      thread_.join();
      throw;
    }
  }
  // What is under way is given up.
  ~GlooCommunicator() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    mesh_->abort();
    queued_.notify_all();
    thread_.join();
  }

  int rank() const override { return group_.rank; }
  int world_size() const override { return group_.world_size; }

  void all_reduce_sum(std::span<double> values) override {
    const Tensor tensor{values.data(), DType::f64, {static_cast<int64_t>(values.size())}};
    now("all-reduce", "", [this, tensor] { collectives_->all_reduce_sum(tensor); });
  }
  void broadcast(std::span<std::byte> bytes, int root) override {
    check_root(root);
    now("broadcast", "", [this, bytes, root] { collectives_->broadcast(bytes, root); });
  }
  std::vector<std::string> all_gather_text(const std::string& own) override {
    std::vector<std::string> texts;
    now("all-gather of texts", "", [&] { texts = collectives_->all_gather_text(own); });
    return texts;
  }
  void barrier() override {
    now("barrier", "", [this] { collectives_->all_gather_text(""); });
  }

  std::unique_ptr<Mark> make_mark() override { return std::make_unique<HostMark>(waited_); }
  void all_reduce_sum(const Tensor& tensor, std::string_view name, Mark& done) override {
    check(tensor, "all-reduce", name);
    later("all-reduce", name, done, [this, tensor] { collectives_->all_reduce_sum(tensor); });
  }
  void reduce_scatter_sum(const Tensor& parts, const Tensor& own, std::string_view name,
                          Mark& done) override {
    check(parts, "reduce-scatter", name);
    if (own.dtype != parts.dtype || own.count() * world_size() != parts.count())
      fail("reduce-scatter ({}): parts {} {} and own {} {}; expected (N, count) and (count) with N = {}",
           name, name_of(parts.dtype), parts.shape.text(), name_of(own.dtype), own.shape.text(),
           world_size());
    later("reduce-scatter", name, done, [this, parts, own] { collectives_->reduce_scatter_sum(parts, own); });
  }
  void all_to_all(const Tensor& parts, const Tensor& arrived, std::string_view name, Mark& done) override {
    check(parts, "all-to-all", name);
    check_all_to_all(parts, arrived, world_size(), name);
    later("all-to-all", name, done, [this, parts, arrived] { collectives_->all_to_all(parts, arrived); });
  }
  void all_gather(const Tensor& parts, std::string_view name, Mark& done) override {
    check(parts, "all-gather", name);
    if (parts.count() % world_size() != 0)
      fail("all-gather ({}): parts {}; expected (N, count) with N = {}", name, parts.shape.text(),
           world_size());
    later("all-gather", name, done, [this, parts] { collectives_->all_gather(parts); });
  }
  void broadcast(const Tensor& tensor, int root, std::string_view name, Mark& done) override {
    check(tensor, "broadcast", name);
    check_root(root);
    later("broadcast", name, done, [this, tensor, root] {
      collectives_->broadcast({static_cast<std::byte*>(tensor.data), tensor.bytes()}, root);
    });
  }
  Watchdog& watchdog() override { return *watchdog_; }
  void give_up(const std::string& cause, ExitCode code) noexcept override { watchdog_->give_up(cause, code); }
  double wait_seconds() const override { return 1e-9 * static_cast<double>(*waited_); }
  uint64_t bytes_sent() const override { return bytes_sent_; }

 private:
  struct Job {
    const char* operation;
    std::string name;
    HostMark* done;
    bool counted;
    std::function<void()> work;
  };

  static void check(const Tensor& tensor, const char* operation, std::string_view name) {
    if (tensor.dtype == DType::i32) fail("{} ({}): found I32, expected F32, F64 or BF16", operation, name);
  }
  void check_root(int root) const {
    if (root < 0 || root >= world_size()) fail("broadcast from rank {} of {}", root, world_size());
  }

  void queue(Job job) {
    job.done->arm();
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    queued_.notify_all();
  }
  void later(const char* operation, std::string_view name, Mark& done, std::function<void()> work) {
    auto* mark = dynamic_cast<HostMark*>(&done);
    if (mark == nullptr) fail("{} ({}): the mark is not of Communicator::make_mark", operation, name);
    queue({operation, std::string(name), mark, true, std::move(work)});
  }
  void now(const char* operation, std::string_view name, std::function<void()> work) {
    HostMark done(waited_);
    queue({operation, std::string(name), &done, false, std::move(work)});
    done.wait();
  }

  void run(std::chrono::milliseconds timeout, HostMark& ready);
  void carry_out(const Job& job);
  void end_with(const Job& job, const std::string& cause, ExitCode code);

  const ProcessGroup group_;
  // Made by the thread and used by it, but for Mesh::abort.
  std::optional<Rendezvous> rendezvous_;
  std::optional<Mesh> mesh_;
  std::optional<HostCollectives> collectives_;
  std::optional<Watchdog> watchdog_;
  std::optional<GroupFailure> failure_;  // after it nothing is tried any more
  uint64_t operations_ = 0;              // begun
  const std::shared_ptr<std::atomic<int64_t>> waited_ = std::make_shared<std::atomic<int64_t>>();  // ns
  std::atomic<uint64_t> bytes_sent_ = 0;

  std::mutex mutex_;  // guards what follows
  std::condition_variable queued_;
  std::deque<Job> jobs_;
  bool stop_ = false;
  std::thread thread_;
};

void GlooCommunicator::run(std::chrono::milliseconds timeout, HostMark& ready) {
  try {
    rendezvous_.emplace(group_, timeout);
    mesh_.emplace(*rendezvous_, group_.rank, group_.world_size, timeout);
    collectives_.emplace(*mesh_);
    watchdog_.emplace(*rendezvous_, group_, timeout, activity());
  } catch (...) {
    return ready.complete(std::current_exception());
  }
  ready.complete(nullptr);  // from here on `ready` is gone
  for (;;) {
    std::unique_lock lock(mutex_);
    queued_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) break;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    if (stop_) failure_ = {ExitCode::failed, "the communicator is being closed", ""};
    lock.unlock();
    carry_out(job);
  }
  mesh_->close();
}

void GlooCommunicator::carry_out(const Job& job) {
  const std::string name = job.operation + (job.name.empty() ? "" : " (" + job.name + ")");
  const std::string what = fmt::format("{} on {}", name, rendezvous_->describe(rank()));
  if (failure_)
    return job.done->complete(std::make_exception_ptr(
        Error(fmt::format("{}: not begun: {}{}", what, failure_->cause, failure_->report), failure_->code)));
  activity().begin(Activity::Lane::host, ++operations_, name);
  const uint64_t before = collectives_->bytes_sent();
  try {
    job.work();
    activity().end(Activity::Lane::host, operations_);
    if (job.counted) bytes_sent_ += collectives_->bytes_sent() - before;
    job.done->complete(nullptr);
  } catch (const Error& error) {
    end_with(job, fmt::format("{}: {}", what, error.what()), error.code());
  } catch (const std::exception& error) {
    end_with(job, fmt::format("{}: {}", what, error.what()), ExitCode::failed);
  }
}

void GlooCommunicator::end_with(const Job& job, const std::string& cause, ExitCode code) {
  bool stopped = false;
  {
    const std::lock_guard lock(mutex_);
    stopped = stop_;
  }
  failure_ = {code, cause, ""};
  // What broke first may have been between other ranks, of which this one only saw the consequences. Whoever
  // reports does so before its connections end, so that those that notice find it.
  if (!stopped) failure_ = watchdog_->give_up(cause, code);
  mesh_->close();
  job.done->complete(std::make_exception_ptr(Error(failure_->cause + failure_->report, failure_->code)));
}

}  // namespace

std::unique_ptr<HostCommunicator> make_gloo_communicator(const ProcessGroup& group,
                                                         std::chrono::milliseconds timeout) {
  return std::make_unique<GlooCommunicator>(group, timeout);
}

}  // namespace polar
