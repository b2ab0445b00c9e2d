#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <list>
#include <map>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "comm/quiet_thread.h"
#include "comm/store.h"
#include "comm/store_protocol.h"

namespace polar {
namespace {

using namespace store_protocol;
using Clock = std::chrono::steady_clock;

constexpr size_t kMaxUnread = size_t{64} << 20;  // replies that a client does not fetch
constexpr std::chrono::seconds kFarewell{1};     // to read a refusal before the connection is cut

struct Connection {
  enum class State { greeting, serving, leaving };
  Socket socket;
  std::string peer;
  State state = State::greeting;
  std::string input, output;
  Deadline deadline = Deadline::max();
  std::optional<std::string> waits_for;  // the key of a get that is not there yet
  bool over = false;
};

struct Value {
  std::string text;
  Clock::time_point set;
};

// What others sent, fit for a line of the log.
std::string printable(std::string_view bytes, size_t limit = 40) {
  std::string text;
  for (const char c : bytes.substr(0, limit))
    text += c >= ' ' && c <= '~' ? std::string(1, c) : fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
  return "'" + text + (bytes.size() > limit ? "...'" : "'");
}

std::string reply(Status status) {
  Writer writer;
  writer.byte(static_cast<uint8_t>(status));
  return writer.message();
}

std::string reply(Status status, std::string_view value) {
  Writer writer;
  writer.byte(static_cast<uint8_t>(status));
  writer.string(value);
  return writer.message();
}

std::optional<int64_t> number(const std::string& text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// A rank has up to three connections to the store; many systems allow 1,024 files before a process asks.
void allow_many_files() {
  constexpr rlim_t kWanted = 65536;
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kWanted) return;
  limit.rlim_cur = std::min(kWanted, limit.rlim_max);
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

// The thread, its connections and the values; only the thread touches them.
class StoreServer::Loop {
 public:
  Loop(uint16_t port, std::string run_id, std::chrono::milliseconds greeting_timeout)
      : run_id_(std::move(run_id)), greeting_timeout_(greeting_timeout) {
    if (run_id_.empty() || run_id_.size() > kMaxRunId)
      fail_usage("the run id has {} characters; expected 1 to {}", run_id_.size(), kMaxRunId);
    allow_many_files();
    listener_ = listen_on(port);
    port_ = port_of(listener_.get());
    wake_ = Socket(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_) fail("cannot make an event descriptor: {}", strerror(errno));
    thread_ = quiet_thread([this] { run(); });
  }
  ~Loop() {
    stop_ = true;
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = write(wake_.get(), &one, sizeof one);
    thread_.join();
  }
  uint16_t port() const { return port_; }

 private:
  void run();
  void accept_all();
  void receive(Connection& connection);
  void send_some(Connection& connection);
  void expire(Connection& connection);
  void interpret(Connection& connection);
  bool greet(Connection& connection);
  void serve(Connection& connection, std::string_view request);
  std::optional<std::string> carry_out(Connection& connection, Operation operation, Reader& fields);
  std::string add(const std::string& key, int64_t delta);
  void set(const std::string& key, std::string value);
  std::string list(const std::string& prefix, bool with_values) const;
  void answer(Connection& connection, const std::string& message);
  void refuse(Connection& connection, const std::string& reason, const std::string& logged);
  int poll_timeout() const;

  const std::string run_id_;
  const std::chrono::milliseconds greeting_timeout_;
  Socket listener_, wake_;
  uint16_t port_ = 0;
  bool accepting_ = true;  // false for a moment when descriptors have run out
  std::atomic<bool> stop_ = false;
  std::list<Connection> connections_;
  std::map<std::string, Value> values_;
  std::thread thread_;
};

void StoreServer::Loop::run() {
  std::vector<pollfd> entries;
  while (!stop_) {
    entries.clear();
    entries.push_back({wake_.get(), POLLIN, 0});
    entries.push_back({accepting_ ? listener_.get() : -1, POLLIN, 0});
    accepting_ = true;
    for (const Connection& connection : connections_)
      entries.push_back({connection.socket.get(),
                         static_cast<short>(connection.output.empty() ? POLLIN : POLLIN | POLLOUT), 0});
    poll(entries.data(), entries.size(), poll_timeout());
    size_t index = 2;
    for (Connection& connection : connections_) {
      const short events = entries[index++].revents;
      if (events & (POLLIN | POLLHUP | POLLERR)) receive(connection);
      if (events & POLLOUT) send_some(connection);
      expire(connection);
    }
    connections_.remove_if([](const Connection& connection) { return connection.over; });
    if (entries[1].revents != 0) accept_all();
  }
}

int StoreServer::Loop::poll_timeout() const {
  if (!accepting_) return 100;
  Deadline first = Deadline::max();
  for (const Connection& connection : connections_) first = std::min(first, connection.deadline);
  return first == Deadline::max() ? -1 : milliseconds_until(first);
}

void StoreServer::Loop::accept_all() {
  for (;;) {
    Socket socket(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      if (errno == EINTR || errno == ECONNABORTED) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) {  // no descriptors, no memory: others may leave some
        log::warning("store: cannot accept a connection: {}", strerror(errno));
        accepting_ = false;
      }
      return;
    }
    const int on = 1;
    setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    Connection& connection = connections_.emplace_back();
    connection.peer = peer_text(socket.get());
    connection.socket = std::move(socket);
    connection.deadline = deadline_after(greeting_timeout_);
  }
}

void StoreServer::Loop::receive(Connection& connection) {
  char buffer[64 << 10];
  const ssize_t got = recv(connection.socket.get(), buffer, sizeof buffer, 0);
  if (got < 0) {
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) connection.over = true;
    return;
  }
  if (got == 0) {
    connection.over = true;
    return;
  }
  if (connection.state == Connection::State::leaving) return;  // nobody listens any more
  connection.input.append(buffer, static_cast<size_t>(got));
  interpret(connection);
}

void StoreServer::Loop::send_some(Connection& connection) {
  if (connection.over || connection.output.empty()) return;
  const ssize_t sent =
      send(connection.socket.get(), connection.output.data(), connection.output.size(), MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) connection.over = true;
    return;
  }
  connection.output.erase(0, static_cast<size_t>(sent));
  if (connection.output.empty() && connection.state == Connection::State::leaving)
    shutdown(connection.socket.get(), SHUT_WR);
}

void StoreServer::Loop::expire(Connection& connection) {
  if (connection.over || Clock::now() < connection.deadline) return;
  if (connection.state == Connection::State::leaving) {
    connection.over = true;
  } else if (connection.state == Connection::State::greeting) {
    const double seconds = std::chrono::duration<double>(greeting_timeout_).count();
    refuse(connection, fmt::format("no greeting within {} s", seconds),
           fmt::format("sent no greeting within {} s (found {})", seconds, printable(connection.input)));
  } else {
    connection.deadline = Deadline::max();
    connection.waits_for.reset();
    answer(connection, reply(Status::timed_out));
    interpret(connection);
  }
}

// Whatever is whole of what has come. While a client waits for a key its next request waits, too.
void StoreServer::Loop::interpret(Connection& connection) {
  if (connection.state == Connection::State::greeting && !greet(connection)) return;
  std::string& input = connection.input;
  while (connection.state == Connection::State::serving && !connection.waits_for && input.size() >= 4) {
    const uint32_t size = *Reader(input).u32();
    if (size > kMaxMessage) {
      refuse(connection, fmt::format("a request of {} bytes; at most {} are allowed", size, kMaxMessage),
             fmt::format("announced a request of {} bytes, more than {}", size, kMaxMessage));
    } else if (input.size() < 4 + size_t{size}) {
      return;
    } else {
      const std::string request = input.substr(4, size);
      input.erase(0, 4 + size_t{size});
      serve(connection, request);
    }
  }
  if (connection.waits_for && input.size() > kMaxMessage)
    refuse(connection, "requests sent ahead of their turn", "sent ahead of its turn without end");
}

// False: not whole yet, or refused.
bool StoreServer::Loop::greet(Connection& connection) {
  const std::string_view input = connection.input;
  const size_t common = std::min(input.size(), kMagic.size());
  if (input.substr(0, common) != kMagic.substr(0, common)) {
    refuse(connection, "this is the rendezvous store of a polartrain run, and that was no greeting of one",
           fmt::format("is no client of this store (its first bytes: {})", printable(input)));
    return false;
  }
  if (input.size() < kGreetingHead) return false;
  Reader head(input.substr(kMagic.size()));
  const uint32_t version = *head.u32(), size = *head.u32();
  if (version != kVersion) {
    refuse(connection,
           fmt::format("it speaks version {} of the protocol, the client version {}; use the same "
                       "polartrain on all machines",
                       kVersion, version),
           fmt::format("speaks version {} of the protocol, this store version {}", version, kVersion));
    return false;
  }
  if (size > kMaxRunId) {
    refuse(connection, "the run id is too long", fmt::format("sent a run id of {} bytes", size));
    return false;
  }
  if (input.size() < kGreetingHead + size) return false;
  const std::string_view run_id = input.substr(kGreetingHead, size);
  if (run_id != run_id_) {
    // The own run id is what lets a client in: the refusal must not say it.
    refuse(connection, fmt::format("it belongs to another run, not to {}", printable(run_id)),
           fmt::format("belongs to another run: {}", printable(run_id)));
    return false;
  }
  connection.input.erase(0, kGreetingHead + size);
  connection.state = Connection::State::serving;
  connection.deadline = Deadline::max();
  answer(connection, reply(Status::done));
  return true;
}

void StoreServer::Loop::serve(Connection& connection, std::string_view request) {
  Reader fields(request);
  const std::optional<uint8_t> code = fields.byte();
  const bool known = code && *code >= static_cast<uint8_t>(Operation::set) &&
                     *code <= static_cast<uint8_t>(Operation::values);
  const auto message =
      known ? carry_out(connection, static_cast<Operation>(*code), fields) : std::optional<std::string>();
  if (!message)
    refuse(connection, "a malformed request",
           fmt::format("sent a malformed request: {}", printable(request)));
  else if (!message->empty())
    answer(connection, *message);
}

// The reply; an empty one if it comes later; nothing if the fields are not as they should be.
std::optional<std::string> StoreServer::Loop::carry_out(Connection& connection, Operation operation,
                                                        Reader& fields) {
  const std::optional<std::string> key = fields.string();
  if (!key) return std::nullopt;
  const auto found = values_.find(*key);
  if (operation == Operation::set) {
    std::optional<std::string> value = fields.string();
    if (!value || !fields.at_end()) return std::nullopt;
    set(*key, std::move(*value));
    return reply(Status::done);
  }
  if (operation == Operation::add) {
    const std::optional<int64_t> delta = fields.i64();
    return delta && fields.at_end() ? std::optional(add(*key, *delta)) : std::nullopt;
  }
  if (operation == Operation::compare_and_set) {
    const std::optional<uint8_t> expects = fields.byte();
    const std::optional<std::string> expected = fields.string();
    std::optional<std::string> desired = fields.string();
    if (!expects || !expected || !desired || !fields.at_end()) return std::nullopt;
    const bool equal =
        *expects != 0 ? found != values_.end() && found->second.text == *expected : found == values_.end();
    if (equal) set(*key, std::move(*desired));
    return reply(equal ? Status::done : Status::absent);
  }
  if (operation == Operation::get) {
    const std::optional<int64_t> milliseconds = fields.i64();
    if (!milliseconds || !fields.at_end()) return std::nullopt;
    if (found != values_.end()) return reply(Status::done, found->second.text);
    connection.waits_for = *key;
    connection.deadline =
        deadline_after(std::chrono::milliseconds(std::clamp<int64_t>(*milliseconds, 0, int64_t{1} << 40)));
    return "";
  }
  if (!fields.at_end()) return std::nullopt;
  if (operation == Operation::keys || operation == Operation::values)
    return list(*key, operation == Operation::values);
  if (operation == Operation::remove) {
    values_.erase(*key);
    return reply(Status::done);
  }
  // try_get
  return found == values_.end() ? reply(Status::absent) : reply(Status::done, found->second.text);
}

std::string StoreServer::Loop::add(const std::string& key, int64_t delta) {
  const auto found = values_.find(key);
  const std::optional<int64_t> old = found == values_.end() ? 0 : number(found->second.text);
  int64_t sum = 0;
  if (!old)
    return reply(Status::failed, fmt::format("its value, {}, is no number", printable(found->second.text)));
  if (__builtin_add_overflow(*old, delta, &sum)) return reply(Status::failed, "the sum exceeds 64 bits");
  set(key, std::to_string(sum));
  return reply(Status::done, std::to_string(sum));
}

void StoreServer::Loop::set(const std::string& key, std::string value) {
  values_[key] = {std::move(value), Clock::now()};
  for (Connection& connection : connections_) {
    if (connection.over || connection.waits_for != key) continue;
    connection.waits_for.reset();
    connection.deadline = Deadline::max();
    answer(connection, reply(Status::done, values_[key].text));
    // What it sent ahead meanwhile is read when its turn in the loop comes with its next bytes; a client of
    // ours sends nothing before it has its answer.
  }
}

std::string StoreServer::Loop::list(const std::string& prefix, bool with_values) const {
  Writer writer;
  writer.byte(static_cast<uint8_t>(Status::done));
  const Clock::time_point now = Clock::now();
  for (auto entry = values_.lower_bound(prefix);
       entry != values_.end() && entry->first.compare(0, prefix.size(), prefix) == 0; ++entry) {
    writer.string(entry->first);
    if (!with_values) continue;
    writer.string(entry->second.text);
    writer.i64(std::chrono::duration_cast<std::chrono::milliseconds>(now - entry->second.set).count());
  }
  if (writer.bytes().size() > kMaxMessage) return reply(Status::failed, "too many keys for one reply");
  return writer.message();
}

void StoreServer::Loop::answer(Connection& connection, const std::string& message) {
  connection.output += message;
  if (connection.output.size() > kMaxUnread) {
    log::warning("store: {} does not read its replies; disconnected", connection.peer);
    connection.over = true;
  }
  send_some(connection);
}

void StoreServer::Loop::refuse(Connection& connection, const std::string& reason, const std::string& logged) {
  log::warning("store: {} {}; disconnected", connection.peer, logged);
  connection.state = Connection::State::leaving;
  connection.waits_for.reset();
  connection.input.clear();
  connection.deadline = deadline_after(kFarewell);
  answer(connection, reply(Status::refused, reason));
}

StoreServer::StoreServer(uint16_t port, std::string run_id, std::chrono::milliseconds greeting_timeout)
    : loop_(std::make_unique<Loop>(port, std::move(run_id), greeting_timeout)) {}
StoreServer::~StoreServer() = default;
uint16_t StoreServer::port() const {
  return loop_->port();
}

}  // namespace polar
