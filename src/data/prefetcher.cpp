#include "data/prefetcher.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/error.h"

namespace polar {

namespace {

Batch part_of(const Batch& batch, int64_t first, int64_t sequences) {
  const auto from = [begin = first * batch.sequence_length](int32_t* data) {
    return data == nullptr ? nullptr : data + begin;
  };
  return {.sequences = sequences,
          .sequence_length = batch.sequence_length,
          .ids = from(batch.ids),
          .targets = from(batch.targets),
          .document_starts = from(batch.document_starts)};
}

}  // namespace

Prefetcher::Prefetcher(const Loader& loader, std::vector<Batch> ring, uint64_t first, Plan first_sample_of,
                       Rows rows)
    : loader_(loader),
      first_sample_of_(std::move(first_sample_of)),
      rows_(rows),
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
      fill(view);
      lock.lock();
    }
  } catch (...) {
    if (!lock.owns_lock()) lock.lock();
    error_ = std::current_exception();
    changed_.notify_all();
  }
}

void Prefetcher::fill(View& view) const {
  view.first_sample = first_sample_of_(view.index);
  view.counts = {};
  const int64_t together = rows_.together == 0 ? view.batch.sequences : rows_.together;
  for (int64_t row = 0; row < view.batch.sequences; row += together) {
    const uint64_t sample = view.first_sample + static_cast<uint64_t>(row / together) * rows_.apart;
    const BatchCounts counts =
        loader_.fill(sample, part_of(view.batch, row, std::min(together, view.batch.sequences - row)));
    view.counts.valid_tokens += counts.valid_tokens;
    view.counts.text_bytes += counts.text_bytes;
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
