#include "comm/mesh.h"

#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include "base/error.h"
#include "comm/quiet_thread.h"

namespace polar {
namespace {

using std::chrono::milliseconds;

// Gloo's key-value store, over ours.
class GlooStore final : public ::gloo::rendezvous::Store {
 public:
  GlooStore(Rendezvous& rendezvous, Deadline deadline) : rendezvous_(rendezvous), deadline_(deadline) {}
  void set(const std::string& key, const std::vector<char>& data) override {
    rendezvous_.store().set(rendezvous_.prefix() + "gloo/" + key, {data.begin(), data.end()});
  }
  std::vector<char> get(const std::string& key) override {
    const std::string value = rendezvous_.wait_for("gloo/" + key, deadline_, "addresses of Gloo");
    return {value.begin(), value.end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }
  void wait(const std::vector<std::string>& keys, const milliseconds& /*timeout*/) override { wait(keys); }

 private:
  Rendezvous& rendezvous_;
  const Deadline deadline_;
};

// Gloo's message without the place in its source.
std::string plain(std::string_view message) {
  const size_t end = message.find("] ");
  if (message.rfind('[', 0) == 0 && end != std::string_view::npos) message.remove_prefix(end + 2);
  return std::string(message);
}

constexpr milliseconds kPulse{100};
constexpr milliseconds kNever = std::chrono::hours(24 * 365);  // Gloo's own timeout would end all connections

uint64_t mixed(uint64_t value) {  // SplitMix64's last steps
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
  return value ^ (value >> 31);
}

}  // namespace

struct Mesh::Exchange::Moving {
  std::unique_ptr<::gloo::transport::UnboundBuffer> buffer;
  int peer = 0;
};
Mesh::Exchange::Exchange() = default;
Mesh::Exchange::Exchange(Exchange&&) noexcept = default;
Mesh::Exchange& Mesh::Exchange::operator=(Exchange&&) noexcept = default;
Mesh::Exchange::~Exchange() = default;

Mesh::Mesh(Rendezvous& rendezvous, int rank, int world_size, milliseconds timeout)
    : rendezvous_(rendezvous), rank_(rank), world_size_(world_size), timeout_(timeout) {
  deadline_ = deadline_after(timeout);
  try {
    ::gloo::transport::tcp::attr attributes(rendezvous.own_address().c_str());
    auto device = ::gloo::transport::tcp::CreateDevice(attributes);
    auto context = std::make_shared<::gloo::rendezvous::Context>(rank, world_size);
    context->setTimeout(timeout);
    GlooStore store(rendezvous, deadline_);
    context->connectFullMesh(store, device);
    context_ = std::move(context);
    watch_connections();
  } catch (const Error&) {
    throw;  // of the rendezvous, through Gloo
  } catch (const std::exception& error) {
    fail(
        "rank {} at {}: Gloo cannot connect the ranks with each other: {}; do the machines reach each other "
        "on all ports?",
        rank, rendezvous.own_address(), plain(error.what()));
  }
}

Mesh::~Mesh() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  stopped_.notify_all();
  pulse_.join();
}

// Gloo does not tell whoever waits for a send that the connection broke while the send was being written, and
// can be asked neither for the state of a connection nor to wait for a while only. Hence the sentinels, and a
// pulse that ends every wait now and then, to look at them.
void Mesh::watch_connections() {
  constexpr uint64_t kSlot = ~uint64_t{0};
  for (int peer = 0; peer < world_size_; ++peer) {
    sentinels_.emplace_back();
    if (peer == rank_) continue;
    sentinels_.back() = context_->createUnboundBuffer(&sentinel_memory_, sizeof sentinel_memory_);
    sentinels_.back()->recv(peer, kSlot);
  }
  pulse_ = quiet_thread([this] { pulse(); });
}

void Mesh::pulse() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    stopped_.wait_for(lock, kPulse);
    if (waits_on_ == nullptr) continue;
    waits_on_->abortWaitRecv();
    waits_on_->abortWaitSend();
  }
}

// Why the connection is no more; empty if it stands.
std::string Mesh::broken(int peer) {
  ::gloo::transport::UnboundBuffer& sentinel = *sentinels_[static_cast<size_t>(peer)];
  try {
    sentinel.abortWaitRecv();  // so that the wait is only a question
    sentinel.waitRecv(kNever);
    return "";
  } catch (const std::exception& error) {
    return plain(error.what());
  }
}

// What there is to say of a peer that has not done its part in time.
std::string Mesh::lateness(int peer) {
  std::string text = fmt::format("nothing within {} s", std::chrono::duration<double>(timeout_).count());
  for (int other = 0; other < world_size_; ++other) {
    if (other == rank_ || other == peer) continue;
    if (const std::string reason = broken(other); !reason.empty())
      return text + fmt::format(", and {} is gone: {}", rendezvous_.describe(other), reason);
  }
  return text + ": it hangs, is far behind, waits for yet another rank, or has called another operation";
}

void Mesh::begin_operation(uint64_t signature) {
  deadline_ = deadline_after(timeout_);
  signature_ = signature;
  operation_ += 1;
  exchange_ = 0;
}

Mesh::Exchange Mesh::start(const std::vector<Block>& sends, const std::vector<Block>& receives) {
  const uint64_t slot = mixed(mixed(operation_) ^ mixed(signature_ + (exchange_ << 40)));
  exchange_ += 1;
  Exchange exchange;
  const auto move = [&](const Block& block, std::vector<Exchange::Moving>& list, bool receive) {
    if (block.bytes == 0) return;
    Exchange::Moving& moving = list.emplace_back();
    moving.peer = block.peer;
    try {
      moving.buffer = context_->createUnboundBuffer(block.data, block.bytes);
      if (receive)
        moving.buffer->recv(block.peer, slot);
      else
        moving.buffer->send(block.peer, slot);
    } catch (const std::exception& error) {
      fail_with(block.peer, receive ? "receiving from" : "sending to", plain(error.what()));
    }
  };
  for (const Block& block : receives) move(block, exchange.receives_, true);
  for (const Block& block : sends) move(block, exchange.sends_, false);
  return exchange;
}

// False after a pulse.
bool Mesh::attempt(Exchange::Moving& moving, bool receive) {
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) fail("the communicator is being closed");
    waits_on_ = moving.buffer.get();
  }
  bool arrived = false;
  std::string reason;
  try {
    arrived = receive ? moving.buffer->waitRecv(kNever) : moving.buffer->waitSend(kNever);
  } catch (const std::exception& error) {
    reason = plain(error.what());
  }
  const std::lock_guard lock(mutex_);
  waits_on_ = nullptr;
  if (!reason.empty()) fail_with(moving.peer, receive ? "receiving from" : "sending to", reason);
  return arrived;
}

void Mesh::wait(Exchange::Moving& moving, bool receive) {
  const char* direction = receive ? "receiving from" : "sending to";
  while (!attempt(moving, receive)) {
    const std::string reason = broken(moving.peer);
    if (!reason.empty()) {
      // Its last bytes may have come before it left.
      if (attempt(moving, receive)) return;
      fail_with(moving.peer, direction, reason);
    }
    if (milliseconds_until(deadline_) == 0)
      fail_with(moving.peer, direction, lateness(moving.peer), ExitCode::hung);
  }
}

void Mesh::wait_receives(Exchange& exchange) {
  for (Exchange::Moving& moving : exchange.receives_) wait(moving, true);
}

void Mesh::wait_sends(Exchange& exchange) {
  for (Exchange::Moving& moving : exchange.sends_) wait(moving, false);
}

void Mesh::exchange(const std::vector<Block>& sends, const std::vector<Block>& receives) {
  Exchange both = start(sends, receives);
  wait_receives(both);
  wait_sends(both);
}

void Mesh::fail_with(int peer, const char* direction, const std::string& reason, ExitCode code) const {
  throw Error(fmt::format("{} {}: {}", direction, rendezvous_.describe(peer), reason), code);
}

void Mesh::abort() {
  const std::lock_guard lock(mutex_);
  aborted_ = true;
  if (waits_on_ == nullptr) return;
  waits_on_->abortWaitRecv();
  waits_on_->abortWaitSend();
}

void Mesh::close() {
  context_->closeConnections();
}

}  // namespace polar
