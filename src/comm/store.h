// A small key-value store over TCP: where the processes of a run meet, and where they leave what the others
// have to know (addresses, heartbeats, the first failure). One process holds the server, all have clients.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "comm/socket.h"

namespace polar {

// Serves from a thread of its own until it is destroyed, on all addresses, IPv6 and IPv4, any number of
// clients. Who does not greet with this protocol and this run id, or sends what is no request, is told why,
// logged with its address, and disconnected; a connection on which no greeting comes is closed after
// `greeting_timeout`. Nothing that a client sends or leaves out holds up another one.
class StoreServer {
 public:
  // port 0: any free one. Errors: the port is taken (exit code 1), an empty or overlong run id.
  explicit StoreServer(uint16_t port, std::string run_id,
                       std::chrono::milliseconds greeting_timeout = std::chrono::seconds(5));
  ~StoreServer();
  StoreServer(const StoreServer&) = delete;
  StoreServer& operator=(const StoreServer&) = delete;
  uint16_t port() const;

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

// Keys and values are any bytes; together below 16 MiB. Every operation ends within the client's timeout
// (get: within its own, plus that) or is an Error that names the operation, the key, the store's host:port,
// what was found and what to do. A connection that broke is made anew by the next operation; the operation
// that failed is not repeated, and may or may not have been carried out. May be used by several threads, one
// operation at a time: while one waits in get, the others wait with it. Threads that wait long therefore have
// a client each. A forked child must not use its parent's client.
class StoreClient {
 public:
  // Connects, trying again until `timeout` is over, since the server may still be about to start.
  StoreClient(std::string host, uint16_t port, std::string run_id,
              std::chrono::milliseconds timeout = std::chrono::seconds(60));
  StoreClient(const StoreClient&) = delete;
  StoreClient& operator=(const StoreClient&) = delete;

  void set(const std::string& key, const std::string& value);
  // Waits until the key is there.
  std::string get(const std::string& key, std::chrono::milliseconds timeout);
  std::optional<std::string> try_get(const std::string& key);
  // Adds to the decimal number under the key (0 if there is none) and returns the sum; one step for all
  // clients. Error if the value is no number.
  int64_t add(const std::string& key, int64_t delta);
  // Sets the key to `desired` if its value is `expected` (nothing: if it is absent), in one step for all
  // clients. False: it was another, nothing has changed.
  bool compare_and_set(const std::string& key, const std::optional<std::string>& expected,
                       const std::string& desired);
  void remove(const std::string& key);  // one that is absent too
  // Those that begin with `prefix`, sorted.
  std::vector<std::string> keys(const std::string& prefix);
  struct Entry {
    std::string key, value;
    std::chrono::milliseconds age;  // since it was set, by the server's clock
  };
  // The same with their values.
  std::vector<Entry> values(const std::string& prefix);

  // "host:port"
  const std::string& server() const { return server_; }
  // This machine's address on the way to the store: others that reach the store reach it, too.
  std::string own_address();
  std::string server_address();  // the other end of the same connection

 private:
  struct Request;
  std::string exchange(const Request& request, std::chrono::milliseconds timeout);
  void connect(Deadline deadline);
  std::string receive(Deadline deadline, const std::string& what);
  [[noreturn]] void give_up(Transfer transfer, const std::string& what);

  const std::string host_;
  const uint16_t port_;
  const std::string run_id_;
  const std::chrono::milliseconds timeout_;
  const std::string server_;
  std::mutex mutex_;
  Socket socket_;
};

}  // namespace polar
