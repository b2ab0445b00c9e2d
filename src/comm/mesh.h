// Connections between all ranks over Gloo's TCP transport, and the one thing that collectives on the host are
// made of: an exchange of blocks of bytes with several peers at once.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "comm/rendezvous.h"

namespace gloo {
class Context;
namespace transport {
class UnboundBuffer;
}
}  // namespace gloo

namespace polar {

// A block of bytes that goes to a peer or comes from it.
struct Block {
  int peer = 0;
  void* data = nullptr;
  size_t bytes = 0;
};

// Used by one thread, which also makes it (its signals must be blocked: a broken connection is an Error), but
// for abort.
class Mesh {
 public:
  // Connects all ranks with each other; the failure of one is an Error of all. `timeout` is that of the
  // rendezvous and of every operation.
  Mesh(Rendezvous& rendezvous, int rank, int world_size, std::chrono::milliseconds timeout);
  ~Mesh();
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  int rank() const { return rank_; }
  int world_size() const { return world_size_; }

  // An operation begins: its time runs, and `signature` is what must be equal on all ranks. Ranks whose
  // signatures differ do not hear each other.
  void begin_operation(uint64_t signature);

  // Blocks on their way. The memory must stay until `wait` has returned or thrown.
  class Exchange {
   public:
    Exchange();
    Exchange(Exchange&&) noexcept;
    Exchange& operator=(Exchange&&) noexcept;
    ~Exchange();

   private:
    friend class Mesh;
    struct Moving;
    std::vector<Moving> sends_, receives_;
  };
  // Within an operation all ranks call `start` equally often; the exchanges are matched in that order. Blocks
  // of no bytes do not move.
  Exchange start(const std::vector<Block>& sends, const std::vector<Block>& receives);
  // What has come is there; what was sent may be overwritten. Both throw an Error: which peer, and why.
  void wait_receives(Exchange& exchange);
  void wait_sends(Exchange& exchange);
  void exchange(const std::vector<Block>& sends, const std::vector<Block>& receives);

  // From another thread: ends the waiting of the operation that is under way, and of all later ones.
  void abort();
  // Lets the peers know at once that this rank is out.
  void close();

 private:
  void wait(Exchange::Moving& moving, bool receive);
  void watch_connections();
  std::string broken(int peer);
  bool attempt(Exchange::Moving& moving, bool receive);
  std::string lateness(int peer);
  void pulse();
  [[noreturn]] void fail_with(int peer, const char* direction, const std::string& reason,
                              ExitCode code = ExitCode::failed) const;

  Rendezvous& rendezvous_;
  const int rank_, world_size_;
  const std::chrono::milliseconds timeout_;
  std::shared_ptr<::gloo::Context> context_;
  // For each peer a receive that never ends but with the connection.
  std::vector<std::unique_ptr<::gloo::transport::UnboundBuffer>> sentinels_;
  std::byte sentinel_memory_{};
  Deadline deadline_;
  uint64_t operation_ = 0, signature_ = 0, exchange_ = 0;

  std::mutex mutex_;  // guards what follows
  std::condition_variable stopped_;
  bool aborted_ = false, stop_ = false;
  ::gloo::transport::UnboundBuffer* waits_on_ = nullptr;
  std::thread pulse_;
};

}  // namespace polar
