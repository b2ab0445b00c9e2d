#include "backend/cuda/nccl_communicator.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "backend/cuda/event_mark.h"
#include "backend/cuda/nccl_library.h"
#include "backend/cuda/wait_meter.h"
#include "base/error.h"
#include "base/log.h"
#include "comm/gloo.h"
#include "comm/host_collectives.h"
#include "comm/quiet_thread.h"
#include "comm/socket.h"
#include "comm/watchdog.h"

namespace polar::cuda {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

ncclDataType_t type_of(DType dtype, const char* operation, std::string_view name) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::bf16:
      return ncclBfloat16;
    default:
      fail("{} ({}): found {}, expected F32, F64 or BF16", operation, name, name_of(dtype));
  }
}

bool is_good(ncclResult_t status) {
  return status == ncclSuccess || status == ncclInProgress;
}

class NcclCommunicator;

class NcclMark final : public EventMark {
 public:
  NcclMark(const NcclCommunicator& comm, WaitMeter& meter) : comm_(comm), meter_(meter) {}
  void wait() const override;
  void hold(const Stream& stream) const override { meter_.hold(stream, event); }

 private:
  const NcclCommunicator& comm_;
  WaitMeter& meter_;
};

// How far the communication stream has come, as the host can see it without a call of CUDA: before or after
// each operation its number, from a table on the device, is copied to the host.
class Progress {
 public:
  static constexpr uint64_t kTable = 1024;  // operations that may be under way

  explicit Progress(CudaOps& ops) : ops_(ops) {
    table_ = {ops.allocate(kTable * sizeof(int32_t)), DType::i32, {kTable}};
    last_ = static_cast<int32_t*>(ops.allocate_host(sizeof(int32_t)));
    *last_ = -1;
    std::vector<int32_t> numbers(kTable);
    for (size_t i = 0; i < kTable; ++i) numbers[i] = static_cast<int32_t>(i);
    ops.upload(table_, numbers.data());
  }
  ~Progress() {
    ops_.release(table_.data);
    ops_.release_host(last_);
  }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void record(uint64_t number, const Stream& stream) const {
    CUDA_CHECK(cudaMemcpyAsync(last_, table_.as<int32_t>() + number % kTable, sizeof(int32_t),
                               cudaMemcpyDeviceToHost, stream.get()));
  }
  // Was it this one that was recorded last?
  bool is_last(uint64_t number) const {
    return std::atomic_ref<int32_t>(*last_).load() == static_cast<int32_t>(number % kTable);
  }

 private:
  CudaOps& ops_;
  Tensor table_;
  int32_t* last_;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(const ProcessGroup& group, std::chrono::milliseconds timeout, CudaOps& ops);
  ~NcclCommunicator() override;

  int rank() const override { return host_->rank(); }
  int world_size() const override { return host_->world_size(); }

  void all_reduce_sum(std::span<double> values) override {
    throw_if_failed();
    host_->all_reduce_sum(values);
  }
  void broadcast(std::span<std::byte> bytes, int root) override {
    throw_if_failed();
    host_->broadcast(bytes, root);
  }
  std::vector<std::string> all_gather_text(const std::string& own) override {
    throw_if_failed();
    return host_->all_gather_text(own);
  }
  void barrier() override {
    throw_if_failed();
    host_->barrier();
  }

  std::unique_ptr<Mark> make_mark() override { return std::make_unique<NcclMark>(*this, meter_); }
  void all_reduce_sum(const Tensor& tensor, std::string_view name, Mark& done) override;
  void reduce_scatter_sum(const Tensor& parts, const Tensor& own, std::string_view name, Mark& done) override;
  void all_to_all(const Tensor& parts, const Tensor& arrived, std::string_view name, Mark& done) override;
  void all_gather(const Tensor& parts, std::string_view name, Mark& done) override;
  void broadcast(const Tensor& tensor, int root, std::string_view name, Mark& done) override;
  uint64_t bytes_sent() const override { return bytes_sent_; }
  void check() override { throw_if_failed(); }
  Activity& activity() override { return host_->activity(); }
  void give_up(const std::string& cause, ExitCode code) noexcept override { host_->give_up(cause, code); }
  double wait_seconds() const override { return meter_.seconds(); }

  void throw_if_failed() const {
    const std::lock_guard lock(mutex_);
    if (failure_) throw Error(failure_->cause + failure_->report, failure_->code);
  }

 private:
  struct Pending {
    uint64_t number;
    std::string name, what;
    std::optional<Deadline> deadline;  // once the device has come to it
  };

  void connect();
  template <class Call>
  void queue(const char* operation, std::string_view name, Mark& done, const Call& call);
  void await_call(ncclResult_t status, const std::string& what);
  std::string reason(ncclResult_t status) const;
  void watch();
  void watch_once(std::unique_lock<std::mutex>& lock);
  void forget_done();
  void note_begun();
  void end(std::unique_lock<std::mutex>& lock, const std::string& cause, ExitCode code);
  void abort();
  bool first_to_abort();  // NCCL's communicator may be aborted once

  CudaOps& ops_;
  const std::chrono::milliseconds timeout_;
  const NcclLibrary& nccl_;
  std::unique_ptr<HostCommunicator> host_;
  Stream stream_;
  Event ready_;
  Progress begun_, done_;
  mutable WaitMeter meter_;
  ncclComm_t comm_ = nullptr;
  std::timed_mutex calls_;  // held by whoever calls NCCL with comm_
  std::atomic<uint64_t> bytes_sent_ = 0;
  std::atomic<bool> aborted_ = false;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::optional<GroupFailure> failure_;
  std::deque<Pending> pending_;
  uint64_t issued_ = 0;
  bool stop_ = false;
  std::thread watch_;
};

// Asks again and again, so that a collective that never ends cannot hold the host for ever.
void NcclMark::wait() const {
  while (!event.done()) {
    comm_.throw_if_failed();
    std::this_thread::sleep_for(50us);
  }
  comm_.throw_if_failed();
}

NcclCommunicator::NcclCommunicator(const ProcessGroup& group, std::chrono::milliseconds timeout, CudaOps& ops)
    : ops_(ops),
      timeout_(timeout),
      nccl_(nccl_library()),
      host_(make_gloo_communicator(group, timeout)),
      begun_(ops),
      done_(ops) {
  connect();
  watch_ = quiet_thread([this] { watch(); });
}

NcclCommunicator::~NcclCommunicator() {
  std::unique_lock lock(mutex_);
  forget_done();
  stop_ = true;
  const bool closed_early = !failure_ && !pending_.empty();
  if (closed_early) failure_ = {ExitCode::failed, "the communicator is being closed", ""};
  const bool whole = !failure_;
  lock.unlock();
  if (closed_early) abort();
  changed_.notify_all();
  watch_.join();
  if (whole && nccl_.destroy(comm_) != ncclSuccess) log::debug("NCCL: the communicator was not destroyed");
}

void NcclCommunicator::connect() {
  ncclUniqueId id{};
  if (rank() == 0) {
    const ncclResult_t status = nccl_.get_unique_id(&id);
    if (status != ncclSuccess) fail("NCCL: rank 0 cannot make an id: {}", reason(status));
  }
  host_->broadcast(std::as_writable_bytes(std::span(&id, 1)), 0);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  const std::string what = fmt::format("NCCL: connecting rank {} of {}", rank(), world_size());
  await_call(nccl_.init_rank(&comm_, world_size(), id, rank(), &config), what);
  int version = 0;
  nccl_.get_version(&version);
  log::debug("NCCL {}: {} ranks", version, world_size());
}

std::string NcclCommunicator::reason(ncclResult_t status) const {
  const char* last = nccl_.last_error(comm_);
  return fmt::format("{}{}{}", nccl_.error_string(status), last != nullptr && *last != '\0' ? ": " : "",
                     last != nullptr ? last : "");
}

// Calls of a communicator that does not block may go on after their return.
void NcclCommunicator::await_call(ncclResult_t status, const std::string& what) {
  const Deadline deadline = deadline_after(timeout_);
  while (status == ncclInProgress && Clock::now() < deadline) {
    std::this_thread::sleep_for(100us);
    if (nccl_.get_async_error(comm_, &status) != ncclSuccess) status = ncclInternalError;
  }
  if (status == ncclSuccess) return;
  const std::string cause =
      fmt::format("{}: {}", what,
                  status == ncclInProgress
                      ? fmt::format("not done within {} s", std::chrono::duration<double>(timeout_).count())
                      : reason(status) + "; NCCL_DEBUG=INFO says more");
  const ExitCode code = status == ncclInProgress ? ExitCode::hung : ExitCode::failed;
  // From now on nobody else asks NCCL about a communicator that is being aborted.
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = !failure_;
    if (first) failure_ = {code, cause, ""};
  }
  if (first_to_abort()) nccl_.abort(comm_);
  GroupFailure failure = host_->watchdog().give_up(cause, code);
  if (first) {
    const std::lock_guard lock(mutex_);
    failure_ = std::move(failure);
  }
  throw_if_failed();
}

template <class Call>
void NcclCommunicator::queue(const char* operation, std::string_view name, Mark& done, const Call& call) {
  auto* mark = dynamic_cast<NcclMark*>(&done);
  if (mark == nullptr) fail("{} ({}): the mark is not of Communicator::make_mark", operation, name);
  const std::string text = fmt::format("{} ({})", operation, name);
  const std::string what = fmt::format("{} on rank {}", text, rank());
  uint64_t number = 0;
  bool full = false;
  {
    const std::lock_guard lock(mutex_);
    if (failure_)
      throw Error(fmt::format("{}: not begun: {}{}", what, failure_->cause, failure_->report),
                  failure_->code);
    forget_done();
    full = pending_.size() + 1 >= Progress::kTable;
  }
  if (full) stream_.synchronize();
  {
    const std::lock_guard lock(mutex_);
    if (full) forget_done();
    number = issued_++;
    pending_.push_back({number, text, what, std::nullopt});
  }
  ready_.record(ops_.stream());
  stream_.wait(ready_.get());
  begun_.record(number, stream_);
  {
    const std::lock_guard lock(calls_);
    await_call(call(), what);
  }
  done_.record(number, stream_);
  mark->event.record(stream_);
}

void NcclCommunicator::all_reduce_sum(const Tensor& tensor, std::string_view name, Mark& done) {
  const ncclDataType_t type = type_of(tensor.dtype, "all-reduce", name);
  queue("all-reduce", name, done, [&] {
    return nccl_.all_reduce(tensor.data, tensor.data, static_cast<size_t>(tensor.count()), type, ncclSum,
                            comm_, stream_.get());
  });
  const auto ranks = static_cast<uint64_t>(world_size());
  bytes_sent_ += 2 * (ranks - 1) * tensor.bytes() / ranks;
}

void NcclCommunicator::reduce_scatter_sum(const Tensor& parts, const Tensor& own, std::string_view name,
                                          Mark& done) {
  const ncclDataType_t type = type_of(parts.dtype, "reduce-scatter", name);
  if (own.dtype != parts.dtype || own.count() * world_size() != parts.count())
    fail("reduce-scatter ({}): parts {} {} and own {} {}; expected (N, count) and (count) with N = {}", name,
         name_of(parts.dtype), parts.shape.text(), name_of(own.dtype), own.shape.text(), world_size());
  queue("reduce-scatter", name, done, [&] {
    return nccl_.reduce_scatter(parts.data, own.data, static_cast<size_t>(own.count()), type, ncclSum, comm_,
                                stream_.get());
  });
  bytes_sent_ += static_cast<uint64_t>(world_size() - 1) * own.bytes();
}

void NcclCommunicator::all_to_all(const Tensor& parts, const Tensor& arrived, std::string_view name,
                                  Mark& done) {
  const ncclDataType_t type = type_of(parts.dtype, "all-to-all", name);
  check_all_to_all(parts, arrived, world_size(), name);
  const int64_t count = parts.count() / world_size();
  queue("all-to-all", name, done, [&] {
    ncclResult_t status = nccl_.group_start();
    for (int peer = 0; peer < world_size(); ++peer) {
      const Tensor out = parts.slice(peer * count, {count}), in = arrived.slice(peer * count, {count});
      if (is_good(status))
        status = nccl_.send(out.data, static_cast<size_t>(count), type, peer, comm_, stream_.get());
      if (is_good(status))
        status = nccl_.receive(in.data, static_cast<size_t>(count), type, peer, comm_, stream_.get());
    }
    const ncclResult_t end = nccl_.group_end();  // a group that was begun has to end
    return is_good(status) ? end : status;
  });
  const auto ranks = static_cast<uint64_t>(world_size());
  bytes_sent_ += (ranks - 1) * parts.bytes() / ranks;
}

void NcclCommunicator::all_gather(const Tensor& parts, std::string_view name, Mark& done) {
  const ncclDataType_t type = type_of(parts.dtype, "all-gather", name);
  if (parts.count() % world_size() != 0)
    fail("all-gather ({}): parts {}; expected (N, count) with N = {}", name, parts.shape.text(),
         world_size());
  const int64_t count = parts.count() / world_size();
  const Tensor own = parts.slice(rank() * count, {count});
  queue("all-gather", name, done, [&] {
    return nccl_.all_gather(own.data, parts.data, static_cast<size_t>(count), type, comm_, stream_.get());
  });
  bytes_sent_ += static_cast<uint64_t>(world_size() - 1) * own.bytes();
}

void NcclCommunicator::broadcast(const Tensor& tensor, int root, std::string_view name, Mark& done) {
  const ncclDataType_t type = type_of(tensor.dtype, "broadcast", name);
  if (root < 0 || root >= world_size()) fail("broadcast from rank {} of {}", root, world_size());
  queue("broadcast", name, done, [&] {
    return nccl_.broadcast(tensor.data, tensor.data, static_cast<size_t>(tensor.count()), type, root, comm_,
                           stream_.get());
  });
  // In the chain of a ring all but the last send the whole on.
  if (rank() != (root + world_size() - 1) % world_size()) bytes_sent_ += tensor.bytes();
}

// The operations are done in their order: with one all before it.
void NcclCommunicator::forget_done() {
  for (size_t i = 0; i < pending_.size(); ++i)
    if (done_.is_last(pending_[i].number)) {
      host_->activity().end(Activity::Lane::device, pending_[i].number + 1);
      pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      return;
    }
}

// The device is at the first that is not done, or before it.
void NcclCommunicator::note_begun() {
  if (pending_.empty() || pending_.front().deadline || !begun_.is_last(pending_.front().number)) return;
  pending_.front().deadline = deadline_after(timeout_);
  host_->activity().begin(Activity::Lane::device, pending_.front().number + 1, pending_.front().name);
}

// A thread of its own, for a host that waits in CUDA is woken only when the collective ends.
void NcclCommunicator::watch() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    changed_.wait_for(lock, 50ms);
    if (!stop_ && !failure_) watch_once(lock);
  }
}

void NcclCommunicator::watch_once(std::unique_lock<std::mutex>& lock) {
  forget_done();
  if (pending_.empty()) return;
  note_begun();
  const Pending first = pending_.front();
  ncclResult_t status = ncclSuccess;
  if (nccl_.get_async_error(comm_, &status) != ncclSuccess) status = ncclInternalError;
  if (status != ncclSuccess && status != ncclInProgress)
    end(lock, fmt::format("{}: {}", first.what, reason(status)), ExitCode::failed);
  else if (const std::optional<GroupFailure> other = host_->watchdog().failure())
    // NCCL may not notice, least of all a rank on the same machine.
    end(lock, fmt::format("{}: another rank has given up", first.what), other->code);
  else if (first.deadline && Clock::now() > *first.deadline)
    end(lock,
        fmt::format("{}: not done within {} s: a rank hangs, is far behind, or has called another operation",
                    first.what, std::chrono::duration<double>(timeout_).count()),
        ExitCode::hung);
}

// With `mutex_` held. The others are told before NCCL's connections end, so that those that notice find why.
void NcclCommunicator::end(std::unique_lock<std::mutex>& lock, const std::string& cause, ExitCode code) {
  lock.unlock();
  GroupFailure failure = host_->watchdog().give_up(cause, code);
  lock.lock();
  if (!failure_) failure_ = std::move(failure);
  lock.unlock();
  abort();
  lock.lock();
}

void NcclCommunicator::abort() {
  // A call that is under way does not last; one that hangs is ended with the rest.
  const bool alone = calls_.try_lock_for(1s);
  if (first_to_abort()) nccl_.abort(comm_);
  if (alone) calls_.unlock();
}

bool NcclCommunicator::first_to_abort() {
  return !aborted_.exchange(true);
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(const ProcessGroup& group,
                                                     std::chrono::milliseconds timeout, CudaOps& ops) {
  return std::make_unique<NcclCommunicator>(group, timeout, ops);
}

}  // namespace polar::cuda
