#include "comm/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "base/error.h"

namespace polar {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// The numeric host and the port. An IPv4 address that came in through an IPv6 socket is shown as IPv4.
std::pair<std::string, std::string> numeric(const Address& address) {
  char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "?";
  getnameinfo(address.get(), address.size, host, sizeof host, port, sizeof port,
              NI_NUMERICHOST | NI_NUMERICSERV);
  std::string name = host;
  const std::string mapped = "::ffff:";
  if (name.rfind(mapped, 0) == 0 && name.find('.') != std::string::npos) name = name.substr(mapped.size());
  return {name, port};
}

std::string text_of(const Address& address) {
  const auto [host, port] = numeric(address);
  return host.find(':') == std::string::npos ? host + ":" + port : "[" + host + "]:" + port;
}

void set_option(int descriptor, int level, int option, int value) {
  setsockopt(descriptor, level, option, &value, sizeof value);
}

// Waits until the socket can do `events`; false when the deadline passed.
bool wait_for(int descriptor, short events, Deadline deadline) {
  for (;;) {
    pollfd entry{descriptor, events, 0};
    const int ready = poll(&entry, 1, milliseconds_until(deadline));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return true;  // the transfer itself will say what is wrong
  }
}

// A connection to a port of this machine on which nobody listens may get that very port as its own end, and
// then TCP connects it with itself.
bool is_own_end(int descriptor) {
  Address own, peer;
  return getsockname(descriptor, own.get(), &own.size) == 0 &&
         getpeername(descriptor, peer.get(), &peer.size) == 0 && text_of(own) == text_of(peer);
}

// Why the connection could not be made; empty if it was.
std::string try_connect(const addrinfo& info, Deadline deadline, Socket& socket) {
  Socket made(::socket(info.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!made) return strerror(errno);
  if (connect(made.get(), info.ai_addr, info.ai_addrlen) != 0) {
    if (errno != EINPROGRESS) return strerror(errno);
    if (!wait_for(made.get(), POLLOUT, deadline)) return "no answer";
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(made.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) return strerror(error);
  }
  if (is_own_end(made.get())) return strerror(ECONNREFUSED);
  set_option(made.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(made.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  socket = std::move(made);
  return "";
}

// One round over all addresses of the host: the socket, or what went wrong with each.
std::string try_all(const std::string& host, uint16_t port, Deadline deadline, Socket& socket) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int status = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (status != 0)
    return fmt::format("the name '{}' cannot be resolved: {}", host,
                       status == EAI_SYSTEM ? strerror(errno) : gai_strerror(status));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, freeaddrinfo);
  int left = 0;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) ++left;
  std::string reasons;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next, --left) {
    // An address that swallows packets must not take the time of those after it.
    const milliseconds share{std::max(1, milliseconds_until(deadline) / left)};
    const std::string reason = try_connect(*info, Clock::now() + std::min(share, milliseconds{5000}), socket);
    if (reason.empty()) return "";
    Address address;
    memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
    address.size = info->ai_addrlen;
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : ", ", text_of(address), reason);
  }
  return reasons;
}

Socket try_listen(int family, uint16_t port) {
  Socket socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
  if (!socket) return {};
  set_option(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);  // a port that a run has just left
  Address address;
  if (family == AF_INET6) {
    set_option(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0);
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_addr = in6addr_any;
    v6->sin6_port = htons(port);
    address.size = sizeof(sockaddr_in6);
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
    v4->sin_family = AF_INET;
    v4->sin_addr.s_addr = htonl(INADDR_ANY);
    v4->sin_port = htons(port);
    address.size = sizeof(sockaddr_in);
  }
  if (bind(socket.get(), address.get(), address.size) != 0 || listen(socket.get(), SOMAXCONN) != 0) return {};
  return socket;
}

Socket try_listen(uint16_t port) {
  Socket socket = try_listen(AF_INET6, port);
  if (!socket && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) return try_listen(AF_INET, port);
  return socket;
}

}  // namespace

int milliseconds_until(Deadline deadline) {
  // Rounded up: a rest below a millisecond must not become a poll that does not wait.
  const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now()).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    descriptor_ = std::exchange(other.descriptor_, -1);
  }
  return *this;
}

void Socket::close() noexcept {
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

std::string endpoint_text(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

std::string peer_text(int descriptor) {
  Address address;
  if (getpeername(descriptor, address.get(), &address.size) != 0) return "an address that is gone";
  return text_of(address);
}

std::string local_address(int descriptor) {
  Address address;
  if (getsockname(descriptor, address.get(), &address.size) != 0)
    fail("cannot tell this machine's address on a connection: {}", strerror(errno));
  return numeric(address).first;
}

std::string peer_address(int descriptor) {
  Address address;
  if (getpeername(descriptor, address.get(), &address.size) != 0)
    fail("cannot tell the other end's address on a connection: {}", strerror(errno));
  return numeric(address).first;
}

Socket listen_on(uint16_t port) {
  Socket socket = try_listen(port);
  if (!socket && errno == EADDRINUSE)
    fail(
        "cannot listen on port {}: another process uses it (`ss -ltnp 'sport = :{}'` shows which); end that "
        "process or choose another port for this run",
        port, port);
  if (!socket) fail("cannot listen on port {}: {}; choose another port", port, strerror(errno));
  return socket;
}

uint16_t port_of(int descriptor) {
  Address address;
  if (getsockname(descriptor, address.get(), &address.size) != 0)
    fail("cannot tell the port of a socket: {}", strerror(errno));
  return ntohs(address.storage.ss_family == AF_INET6
                   ? reinterpret_cast<const sockaddr_in6*>(&address.storage)->sin6_port
                   : reinterpret_cast<const sockaddr_in*>(&address.storage)->sin_port);
}

uint16_t free_port() {
  constexpr int kFirst = 10000, kFewest = 1000, kAttempts = 100;
  int end = 0;  // the first of those for connections
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> end;
  std::random_device random;  // two that ask at the same time get different ones
  for (int attempt = 0; attempt < kAttempts && end >= kFirst + kFewest; ++attempt) {
    const auto port = static_cast<uint16_t>(std::uniform_int_distribution(kFirst, end - 1)(random));
    if (try_listen(port)) return port;
  }
  return port_of(listen_on(0).get());
}

Socket connect_to(const std::string& host, uint16_t port, Deadline deadline) {
  const auto begin = Clock::now();
  milliseconds pause{20};
  for (;;) {
    Socket socket;
    const std::string reasons = try_all(host, port, deadline, socket);
    if (reasons.empty()) return socket;
    if (Clock::now() + pause >= deadline)
      fail(
          "cannot connect to {} within {:.1f} s ({}); is that the host and port of the process that listens, "
          "does it run, and does no firewall stand between?",
          endpoint_text(host, port), std::chrono::duration<double>(Clock::now() - begin).count(), reasons);
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, milliseconds{1000});
  }
}

Transfer send_all(int descriptor, const void* data, size_t bytes, Deadline deadline) {
  const auto* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t sent = send(descriptor, next, bytes, MSG_NOSIGNAL);
    if (sent >= 0) {
      next += sent;
      bytes -= static_cast<size_t>(sent);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait_for(descriptor, POLLOUT, deadline)) return Transfer::timed_out;
    } else if (errno == EPIPE || errno == ECONNRESET) {
      return Transfer::closed;
    } else if (errno != EINTR) {
      return Transfer::failed;
    }
  }
  return Transfer::done;
}

Transfer receive_all(int descriptor, void* data, size_t bytes, Deadline deadline, size_t* bytes_done) {
  size_t unused = 0;
  size_t& done = bytes_done != nullptr ? *bytes_done : unused;
  done = 0;
  while (done < bytes) {
    const ssize_t got = recv(descriptor, static_cast<char*>(data) + done, bytes - done, 0);
    if (got > 0) {
      done += static_cast<size_t>(got);
    } else if (got == 0 || errno == ECONNRESET) {
      return Transfer::closed;
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      if (!wait_for(descriptor, POLLIN, deadline)) return Transfer::timed_out;
    } else if (errno != EINTR) {
      return Transfer::failed;
    }
  }
  return Transfer::done;
}

}  // namespace polar
