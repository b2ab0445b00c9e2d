#include <errno.h>
#include <string.h>

#include <algorithm>

#include "base/error.h"
#include "comm/store.h"
#include "comm/store_protocol.h"

namespace polar {
namespace {

using namespace store_protocol;

std::string_view name_of(Operation operation) {
  switch (operation) {
    case Operation::set:
      return "set";
    case Operation::get:
      return "get";
    case Operation::try_get:
      return "try_get";
    case Operation::add:
      return "add";
    case Operation::compare_and_set:
      return "compare_and_set";
    case Operation::remove:
      return "remove";
    case Operation::keys:
      return "keys";
    case Operation::values:
      return "values";
  }
  return "?";
}

// A store that was there and is gone comes back soon or never.
constexpr std::chrono::seconds kReconnect{5};

double seconds(std::chrono::milliseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

struct StoreClient::Request {
  Request(Operation operation_, const std::string& key) : operation(operation_) {
    what = fmt::format("{} '{}'", name_of(operation), key);
    fields.byte(static_cast<uint8_t>(operation));
    fields.string(key);
  }
  Operation operation;
  std::string what;  // for messages
  Writer fields;
};

StoreClient::StoreClient(std::string host, uint16_t port, std::string run_id,
                         std::chrono::milliseconds timeout)
    : host_(std::move(host)),
      port_(port),
      run_id_(std::move(run_id)),
      timeout_(timeout),
      server_(endpoint_text(host_, port_)) {
  if (run_id_.empty() || run_id_.size() > kMaxRunId)
    fail_usage("the run id has {} characters; expected 1 to {}", run_id_.size(), kMaxRunId);
  connect(deadline_after(timeout_));
}

void StoreClient::connect(Deadline deadline) {
  socket_ = connect_to(host_, port_, deadline);
  Writer greeting;
  greeting.raw(kMagic);
  greeting.u32(kVersion);
  greeting.string(run_id_);
  const std::string what = "greeting";
  const Transfer sent = send_all(socket_.get(), greeting.bytes().data(), greeting.bytes().size(), deadline);
  if (sent != Transfer::done && sent != Transfer::closed) give_up(sent, what);
  receive(deadline, what);  // refused: an Error
}

void StoreClient::give_up(Transfer transfer, const std::string& what) {
  const int error = errno;
  socket_.close();
  const char* hint = "does the process that holds the store (rank 0 or the launcher) still run?";
  if (transfer == Transfer::timed_out)
    fail("store {}: {}: no answer within {} s; {}", server_, what, seconds(timeout_), hint);
  if (transfer == Transfer::closed) fail("store {}: {}: the connection was closed; {}", server_, what, hint);
  fail("store {}: {}: {}; {}", server_, what, strerror(error), hint);
}

// One reply; a refusal is an Error.
std::string StoreClient::receive(Deadline deadline, const std::string& what) {
  char head[4];
  Transfer transfer = receive_all(socket_.get(), head, sizeof head, deadline);
  if (transfer != Transfer::done) give_up(transfer, what);
  const uint32_t size = *Reader(std::string_view(head, sizeof head)).u32();
  if (size == 0 || size > kMaxMessage) {
    socket_.close();
    fail(
        "store {}: {}: what listens there is no store of polartrain (its answer begins with the bytes "
        "{:02x} {:02x} {:02x} {:02x}); check host and port",
        server_, what, static_cast<uint8_t>(head[0]), static_cast<uint8_t>(head[1]),
        static_cast<uint8_t>(head[2]), static_cast<uint8_t>(head[3]));
  }
  std::string reply(size, '\0');
  transfer = receive_all(socket_.get(), reply.data(), reply.size(), deadline);
  if (transfer != Transfer::done) give_up(transfer, what);
  if (reply[0] == static_cast<char>(Status::refused)) {
    socket_.close();
    Reader fields(reply);
    fields.byte();
    fail("store {}: {}: refused: {}", server_, what, fields.string().value_or("no reason given"));
  }
  return reply;
}

// Sends the request and returns the reply.
std::string StoreClient::exchange(const Request& request, std::chrono::milliseconds timeout) {
  const std::string message = request.fields.message();
  if (message.size() > kMaxMessage)
    fail("store {}: {}: the request has {} bytes; at most {} are allowed", server_, request.what,
         message.size(), kMaxMessage);
  const Deadline deadline = deadline_after(timeout);
  if (!socket_) connect(std::min(deadline, deadline_after(kReconnect)));
  const Transfer sent = send_all(socket_.get(), message.data(), message.size(), deadline);
  if (sent != Transfer::done) give_up(sent, request.what);
  std::string reply = receive(deadline, request.what);
  if (reply[0] == static_cast<char>(Status::failed)) {
    Reader fields(reply);
    fields.byte();
    fail("store {}: {}: {}", server_, request.what, fields.string().value_or("no reason given"));
  }
  return reply;
}

namespace {

// The string after the status.
std::string value_of(const std::string& reply, const std::string& server, const std::string& what) {
  Reader fields(reply);
  fields.byte();
  std::optional<std::string> value = fields.string();
  if (!value) fail("store {}: {}: a malformed reply of {} bytes", server, what, reply.size());
  return std::move(*value);
}

bool is(const std::string& reply, Status status) {
  return reply[0] == static_cast<char>(status);
}

}  // namespace

void StoreClient::set(const std::string& key, const std::string& value) {
  const std::lock_guard lock(mutex_);
  Request request(Operation::set, key);
  request.fields.string(value);
  exchange(request, timeout_);
}

std::string StoreClient::get(const std::string& key, std::chrono::milliseconds timeout) {
  const std::lock_guard lock(mutex_);
  Request request(Operation::get, key);
  request.fields.i64(timeout.count());
  const std::string reply = exchange(request, timeout + timeout_);
  if (is(reply, Status::timed_out))
    fail("store {}: {}: not there after {} s; the process that sets it has not come so far", server_,
         request.what, seconds(timeout));
  return value_of(reply, server_, request.what);
}

std::optional<std::string> StoreClient::try_get(const std::string& key) {
  const std::lock_guard lock(mutex_);
  const Request request(Operation::try_get, key);
  const std::string reply = exchange(request, timeout_);
  if (is(reply, Status::absent)) return std::nullopt;
  return value_of(reply, server_, request.what);
}

int64_t StoreClient::add(const std::string& key, int64_t delta) {
  const std::lock_guard lock(mutex_);
  Request request(Operation::add, key);
  request.fields.i64(delta);
  return std::stoll(value_of(exchange(request, timeout_), server_, request.what));
}

bool StoreClient::compare_and_set(const std::string& key, const std::optional<std::string>& expected,
                                  const std::string& desired) {
  const std::lock_guard lock(mutex_);
  Request request(Operation::compare_and_set, key);
  request.fields.byte(expected ? 1 : 0);
  request.fields.string(expected.value_or(""));
  request.fields.string(desired);
  return is(exchange(request, timeout_), Status::done);
}

void StoreClient::remove(const std::string& key) {
  const std::lock_guard lock(mutex_);
  exchange(Request(Operation::remove, key), timeout_);
}

std::vector<std::string> StoreClient::keys(const std::string& prefix) {
  const std::lock_guard lock(mutex_);
  const std::string reply = exchange(Request(Operation::keys, prefix), timeout_);
  std::vector<std::string> keys;
  Reader fields(reply);
  fields.byte();
  while (!fields.at_end()) {
    std::optional<std::string> key = fields.string();
    if (!key) fail("store {}: keys '{}': a malformed reply of {} bytes", server_, prefix, reply.size());
    keys.push_back(std::move(*key));
  }
  return keys;
}

std::vector<StoreClient::Entry> StoreClient::values(const std::string& prefix) {
  const std::lock_guard lock(mutex_);
  const std::string reply = exchange(Request(Operation::values, prefix), timeout_);
  std::vector<Entry> entries;
  Reader fields(reply);
  fields.byte();
  while (!fields.at_end()) {
    std::optional<std::string> key = fields.string(), value = fields.string();
    const std::optional<int64_t> age = fields.i64();
    if (!key || !value || !age)
      fail("store {}: values '{}': a malformed reply of {} bytes", server_, prefix, reply.size());
    entries.push_back({std::move(*key), std::move(*value), std::chrono::milliseconds(*age)});
  }
  return entries;
}

std::string StoreClient::own_address() {
  const std::lock_guard lock(mutex_);
  if (!socket_) connect(deadline_after(timeout_));
  return local_address(socket_.get());
}

std::string StoreClient::server_address() {
  const std::lock_guard lock(mutex_);
  if (!socket_) connect(deadline_after(timeout_));
  return peer_address(socket_.get());
}

}  // namespace polar
