#include "comm/rendezvous.h"

#include <unistd.h>

#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "comm/store_protocol.h"

namespace polar {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr milliseconds kFarewell{1000};  // for others to read a failure
constexpr int kPortsToTry = 16;          // behind a master port that torchrun holds

std::string host_name() {
  char name[256] = "?";
  gethostname(name, sizeof name - 1);
  return name;
}

std::string encode(const GroupFailure& failure) {
  store_protocol::Writer writer;
  writer.byte(static_cast<uint8_t>(failure.code));
  writer.string(failure.cause);
  writer.string(failure.report);
  return writer.bytes();
}

GroupFailure decode(const std::string& bytes) {
  store_protocol::Reader reader(bytes);
  const auto code = reader.byte();
  const auto cause = reader.string(), report = reader.string();
  if (!report) return {ExitCode::failed, "what it has left is no failure", ""};
  return {static_cast<ExitCode>(*code), *cause, *report};
}

bool is_loopback(const std::string& address) {
  return address == "::1" || address.rfind("127.", 0) == 0;
}

// What a rank says of itself; no part has a space.
struct Member {
  std::string address;  // its own end of the connection to the store
  std::string reached;  // the store's end
  std::string host;
  std::string text() const { return fmt::format("{} {} {} {}", address, reached, host, getpid()); }
};

}  // namespace

Rendezvous::Rendezvous(const ProcessGroup& group, milliseconds timeout)
    : group_(group),
      timeout_(timeout),
      address_{group.master_addr, group.master_port, group.run_id},
      prefix_(fmt::format("{}/{}/", group.run_id, group.restart_count)) {
  const Deadline deadline = deadline_after(timeout);
  open_store();
  try {
    check_world_size();
    meet(deadline);
  } catch (const Error& error) {
    report_failure({error.code(), error.what(), ""});
    linger();
    throw;
  }
}

Rendezvous::~Rendezvous() {
  linger();
}

void Rendezvous::linger() const {
  if (server_ && failed_) std::this_thread::sleep_for(kFarewell);
}

void Rendezvous::open_store() {
  // A port alone says which of several runs with the same id (torchrun's default is "none") this is.
  if (!group_.host_store) address_.run_id += fmt::format("@{}", group_.master_port);
  const int last = group_.port_is_held ? kPortsToTry : 0;
  const auto port = [&](int i) { return static_cast<uint16_t>(group_.master_port + i); };
  if (group_.rank == 0 && !group_.host_store) {
    for (int i = group_.port_is_held ? 1 : 0; !server_; ++i) {
      try {
        server_ = std::make_unique<StoreServer>(port(i), address_.run_id);
      } catch (const Error& error) {
        if (i >= last)
          fail("rank 0 opens the store of the run at MASTER_PORT={}: {}", group_.master_port, error.what());
      }
    }
  }
  if (!group_.port_is_held) {
    client_ = std::make_unique<StoreClient>(address_.host, address_.port, address_.run_id, timeout_);
    return;
  }
  const Deadline deadline = deadline_after(timeout_);
  for (int i = 0; !client_; i = (i + 1) % last) {
    address_.port = server_ ? server_->port() : port(i + 1);
    try {
      client_ = std::make_unique<StoreClient>(address_.host, address_.port, address_.run_id, 500ms);
    } catch (const Error& error) {
      if (milliseconds_until(deadline) == 0)
        fail("no store of this run at the ports {} to {} behind torchrun's own: {}", port(1), port(last),
             error.what());
    }
  }
}

void Rendezvous::check_world_size() {
  const std::string key = prefix_ + "world_size", own = std::to_string(group_.world_size);
  if (client_->compare_and_set(key, std::nullopt, own)) return;
  const std::string other = client_->get(key, 1s);
  if (other == own) return;
  const std::string message = fmt::format(
      "rank {} on {} has world size {} (from {}), other ranks have {}; start all of them with the same",
      group_.rank, host_name(), own, group_.source, other);
  throw Error(message, ExitCode::bad_usage);
}

void Rendezvous::meet(Deadline deadline) {
  const Member own{client_->own_address(), client_->server_address(), host_name()};
  const std::string key = fmt::format("{}rank/{}", prefix_, group_.rank);
  if (!client_->compare_and_set(key, std::nullopt, own.text())) {
    const std::string message = fmt::format(
        "rank {} is there twice: this process ({} {}) and '{}'; give every process its own RANK, "
        "and every run its own MASTER_PORT",
        group_.rank, host_name(), getpid(), client_->get(key, 1s));
    throw Error(message, ExitCode::bad_usage);
  }
  std::string seen_from_outside;  // the store's address, as a rank on another machine reaches it
  for (int rank = 0; rank < group_.world_size; ++rank) {
    std::istringstream text(wait_for(fmt::format("rank/{}", rank), deadline, "the other ranks"));
    Member member;
    std::string process;
    text >> member.address >> member.reached >> member.host >> process;
    members_.push_back(fmt::format("rank {} ({}, process {})", rank, member.host, process));
    if (!is_loopback(member.address) && seen_from_outside.empty()) seen_from_outside = member.reached;
  }
  // On the master's own machine its name may stand for the loopback device, at which others cannot reach it.
  own_address_ = is_loopback(own.address) && !seen_from_outside.empty() ? seen_from_outside : own.address;
}

std::string Rendezvous::missing() {
  std::string ranks;
  for (int rank = 0; rank < group_.world_size; ++rank)
    if (!client_->try_get(fmt::format("{}rank/{}", prefix_, rank)))
      ranks += fmt::format("{}{}", ranks.empty() ? "" : ", ", rank);
  return ranks;
}

std::string Rendezvous::wait_for(const std::string& key, Deadline deadline, const std::string& what) {
  for (;;) {
    if (const auto value = client_->try_get(prefix_ + key)) return *value;
    if (const auto failure = find_failure(*client_))
      throw Error(fmt::format("another rank failed: {}", failure->cause), failure->code);
    const int left = milliseconds_until(deadline);
    if (left == 0) {
      const std::string ranks = missing();
      const std::string who = ranks.empty()
                                  ? fmt::format("'{}' was not there", key)
                                  : fmt::format("rank {} of {} did not come", ranks, group_.world_size);
      fail(
          "rank {} waited for {}: {} within {} s; were they started, with the same MASTER_ADDR, MASTER_PORT, "
          "run id and restart count?",
          group_.rank, what, who, std::chrono::duration<double>(timeout_).count());
    }
    try {
      return client_->get(prefix_ + key, milliseconds(std::min(left, 500)));
    } catch (const Error&) {
      // Not yet, or the store is gone: the next try_get says which.
    }
  }
}

std::string Rendezvous::describe(int rank) const {
  const auto index = static_cast<size_t>(rank);
  return index < members_.size() ? members_[index] : fmt::format("rank {}", rank);
}

std::optional<GroupFailure> Rendezvous::find_failure(StoreClient& client) const {
  const std::optional<std::string> bytes = client.try_get(prefix_ + "failure");
  return bytes ? std::optional(decode(*bytes)) : std::nullopt;
}

std::optional<GroupFailure> Rendezvous::report_failure(const GroupFailure& failure) noexcept {
  failed_ = true;
  try {
    StoreClient client(address_.host, address_.port, address_.run_id, 1s);
    if (!client.compare_and_set(prefix_ + "failure", std::nullopt, encode(failure)))
      return find_failure(client);
  } catch (const std::exception& error) {
    log::debug("the failure could not be left in the store: {}", error.what());
  }
  return std::nullopt;
}

}  // namespace polar
