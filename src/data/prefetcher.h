// Fills batches ahead of the training loop on a thread of its own.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "data/loader.h"

namespace polar {

// Batch n (n = first, first + 1, ...) begins at sample `first_sample_of(n)`, which this rank's plan tells; it
// is called from the prefetcher's thread. The batches of `ring` are the buffers, owned by the caller, at
// least two. Nothing is allocated after construction.
class Prefetcher {
 public:
  using Plan = std::function<uint64_t(uint64_t n)>;
  // Row i is sample first + i / together * apart + i % together; together == 0: all rows follow each other.
  struct Rows {
    int64_t together;
    uint64_t apart;
  };
  // Error (exit code 2) if the ring has fewer than two batches. `loader` must outlive the prefetcher.
  Prefetcher(const Loader& loader, std::vector<Batch> ring, uint64_t first, Plan first_sample_of,
             Rows rows = {0, 0});
  ~Prefetcher();  // stops the thread, whatever it is at
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  struct View {
    Batch batch;
    BatchCounts counts = {};
    uint64_t index = 0;  // n
    uint64_t first_sample = 0;
  };
  // The next batch; valid until next() is called again. Waits if it is not ready; rethrows what the thread
  // died of.
  View next();

  // Time that next() has spent waiting, in seconds; the caller divides by its own time.
  double wait_seconds() const { return wait_seconds_; }

 private:
  void work();
  void fill(View& view) const;
  const Loader& loader_;
  std::vector<View> ring_;
  Plan first_sample_of_;
  Rows rows_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t filled_;    // batches before this one are ready
  uint64_t taken_;     // batches before this one have been handed out
  uint64_t released_;  // batches before this one may be overwritten
  bool stop_ = false;
  std::exception_ptr error_;
  double wait_seconds_ = 0;
  std::thread thread_;  // last: it uses all the others
};

}  // namespace polar
