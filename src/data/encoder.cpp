#include "data/encoder.h"

#include <utility>

namespace polar {

ParallelEncoder::ParallelEncoder(const Tokenizer& tokenizer, unsigned threads) : tokenizer_(tokenizer) {
  for (unsigned i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

ParallelEncoder::~ParallelEncoder() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ParallelEncoder::submit(EncodeJob job) {
  Slot& slot = *in_order_.emplace_back(std::make_unique<Slot>());
  slot.job = std::move(job);
  const std::lock_guard lock(mutex_);
  waiting_.push_back(&slot);
  changed_.notify_all();
}

EncodeJob ParallelEncoder::take() {
  Slot& oldest = *in_order_.front();
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return oldest.done; });
  }
  if (oldest.error) std::rethrow_exception(oldest.error);
  EncodeJob job = std::move(oldest.job);
  in_order_.pop_front();
  return job;
}

void ParallelEncoder::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stop_ || !waiting_.empty(); });
    if (stop_) return;
    Slot& slot = *waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    try {
      for (const Fragment& fragment : slot.job.fragments)
        slot.job.ids.push_back(tokenizer_.encode(fragment.text));
    } catch (...) {
      slot.error = std::current_exception();
    }
    lock.lock();
    slot.done = true;
    changed_.notify_all();
  }
}

}  // namespace polar
