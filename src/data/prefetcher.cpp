#include "data/prefetcher.h"

#include <chrono>
#include <utility>

#include "base/error.h"

namespace polar {

Prefetcher::Prefetcher(const Loader& loader, std::vector<Batch> ring, uint64_t first, Plan first_sample_of)
    : loader_(loader),
      first_sample_of_(std::move(first_sample_of)),
      filled_(first),
      taken_(first),
      released_(first) {
  if (ring.size() < 2) fail_usage("data.prefetch_batches is {}, expected at least 2", ring.size());
  for (const Batch& batch : ring) ring_.push_back({.batch = batch, .counts = {}});
  thread_ = std::thread([this] { work(); });
}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Prefetcher::work() {
  std::unique_lock lock(mutex_);
  try {
    for (;; ++filled_, changed_.notify_all()) {
      changed_.wait(lock, [this] { return stop_ || filled_ - released_ < ring_.size(); });
      if (stop_) return;
      View& view = ring_[filled_ % ring_.size()];
      view.index = filled_;
      lock.unlock();  // nobody else touches this buffer until filled_ has passed it
      view.first_sample = first_sample_of_(view.index);
      view.counts = loader_.fill(view.first_sample, view.batch);
      lock.lock();
    }
  } catch (...) {
    if (!lock.owns_lock()) lock.lock();
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

Prefetcher::View Prefetcher::next() {
  std::unique_lock lock(mutex_);
  released_ = taken_;
  changed_.notify_all();
  const auto ready = [this] { return error_ || filled_ > taken_; };
  if (!ready()) {
    const auto begin = std::chrono::steady_clock::now();
    changed_.wait(lock, ready);
    wait_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  // Batches that were finished before the error are still good.
  if (filled_ == taken_) std::rethrow_exception(error_);
  return ring_[taken_++ % ring_.size()];
}

}  // namespace polar
