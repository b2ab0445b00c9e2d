// Encodes text on several threads, in a fixed order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "data/text_reader.h"
#include "data/tokenizer.h"

namespace polar {

// Some fragments and, once encoded, their ids.
struct EncodeJob {
  std::vector<Fragment> fragments;
  std::vector<std::vector<int32_t>> ids;  // of each fragment
};

// submit() and take() belong to one thread; the jobs come out in the order in which they went in.
class ParallelEncoder {
 public:
  ParallelEncoder(const Tokenizer& tokenizer, unsigned threads);
  ~ParallelEncoder();  // drops what is not encoded yet
  void submit(EncodeJob job);
  // Waits for the oldest job; rethrows what encoding it threw. There must be one.
  EncodeJob take();
  size_t in_flight() const { return in_order_.size(); }
  // As many jobs in flight as keep all threads busy.
  size_t capacity() const { return 4 * threads_.size(); }

 private:
  struct Slot {
    EncodeJob job;
    std::exception_ptr error;
    bool done = false;
  };
  void work();
  const Tokenizer& tokenizer_;
  std::deque<std::unique_ptr<Slot>> in_order_;
  std::mutex mutex_;  // guards what follows, and Slot::done
  std::condition_variable changed_;
  std::deque<Slot*> waiting_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace polar
