// The mark of work that a thread of the host does beside the caller.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>

#include "ops/ops.h"

namespace polar {

// Armed when work is queued and reached when all that it was armed for is done; works are done in the order
// in which they were queued.
class HostMark final : public Mark {
 public:
  bool reached() const override {
    const std::lock_guard lock(mutex_);
    return done_ == armed_;
  }
  // Throws what the work failed with, as often as it is asked.
  void wait() const override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ == armed_; });
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
};

}  // namespace polar
