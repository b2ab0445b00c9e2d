// The mark of work that a thread of the host does beside the caller.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>

#include "ops/ops.h"

namespace polar {

// Armed when work is queued and reached when all that it was armed for is done; works are done in the order
// in which they were queued.
class HostMark final : public Mark {
 public:
  // `waited`: where the nanoseconds are added up that wait() takes.
  explicit HostMark(std::shared_ptr<std::atomic<int64_t>> waited) : waited_(std::move(waited)) {}
  bool reached() const override {
    const std::lock_guard lock(mutex_);
    return done_ == armed_;
  }
  // Throws what the work failed with, as often as it is asked.
  void wait() const override {
    std::unique_lock lock(mutex_);
    if (done_ != armed_) {
      const auto begin = std::chrono::steady_clock::now();
      changed_.wait(lock, [&] { return done_ == armed_; });
      *waited_ += std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin).count();
    }
    if (error_) std::rethrow_exception(error_);
  }
  void arm() {
    const std::lock_guard lock(mutex_);
    armed_ += 1;
  }
  // The oldest work it was armed for is done, or failed.
  void complete(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    done_ += 1;
    if (error && !error_) error_ = std::move(error);
    changed_.notify_all();  // under the lock: whoever waits may destroy the mark
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  uint64_t armed_ = 0, done_ = 0;
  std::exception_ptr error_;
  const std::shared_ptr<std::atomic<int64_t>> waited_;
};

}  // namespace polar
