// TCP as the communication layer uses it: descriptors that close themselves, IPv4 and IPv6, host names, and a
// deadline on everything that waits.
#pragma once

#include <sys/socket.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace polar {

using Deadline = std::chrono::steady_clock::time_point;
inline Deadline deadline_after(std::chrono::milliseconds time) {
  return std::chrono::steady_clock::now() + time;
}
// Milliseconds that are left, at least 0, as poll takes them.
int milliseconds_until(Deadline deadline);

// A file descriptor and its owner. Not inherited by programs that this one starts.
class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  Socket(Socket&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  Socket& operator=(Socket&& other) noexcept;
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() { close(); }
  int get() const { return descriptor_; }
  explicit operator bool() const { return descriptor_ >= 0; }
  void close() noexcept;

 private:
  int descriptor_ = -1;
};

// "host:port", "[2001:db8::1]:29500".
std::string endpoint_text(const std::string& host, uint16_t port);
// The same of a socket's other end.
std::string peer_text(int descriptor);
// This machine's address on the way to the other end, without brackets and port: "10.0.0.5", "fe80::1".
std::string local_address(int descriptor);
std::string peer_address(int descriptor);

// A listening, non-blocking socket on all addresses, IPv6 and IPv4 (only IPv4 where the machine has no IPv6).
// port 0: any free one. Error naming the port and the reason if it cannot be had.
Socket listen_on(uint16_t port);
uint16_t port_of(int descriptor);
// A port on which nobody listens now, for a program that is about to start. None of those that the system
// gives to connections (ip(7), ip_local_port_range), of which one could take it before, unless these leave
// less than 1000 from 10000 on: then any free one.
uint16_t free_port();

// Connects to the first address of `host` that answers, and tries again until the deadline, since whoever
// listens there may not have started. The socket is non-blocking. Error: every address that was tried and why
// it failed. (The look-up of a name is the resolver's and may overstay the deadline by the resolver's
// timeout.)
Socket connect_to(const std::string& host, uint16_t port, Deadline deadline);

enum class Transfer { done, timed_out, closed, failed };  // failed: errno says why
// All the bytes, on a non-blocking socket. `bytes_done` says how far it came.
Transfer send_all(int descriptor, const void* data, size_t bytes, Deadline deadline);
Transfer receive_all(int descriptor, void* data, size_t bytes, Deadline deadline,
                     size_t* bytes_done = nullptr);

}  // namespace polar
