#include "launch/meeting.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <set>
#include <sstream>

#include "base/error.h"
#include "comm/socket.h"

namespace polar::launch {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kDefaultPort = 29500;        // torchrun's
constexpr double kLongestOperation = 10;   // s, of the store, once it is reached
constexpr const char* kPlaceholder = "-";  // an empty word would get lost

milliseconds in_milliseconds(double seconds) {
  return std::chrono::ceil<milliseconds>(std::chrono::duration<double>(seconds));
}

Endpoint endpoint_of(const Options& options) {
  if (!options.rdzv_endpoint.empty())
    return parse_endpoint("--rdzv-endpoint", options.rdzv_endpoint, kDefaultPort);
  return {options.master_addr, options.master_port > 0 ? options.master_port : kDefaultPort};
}

// Whether a host name or address means this machine: only then a socket can be bound to it.
bool is_this_machine(const std::string& host) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return false;
  bool local = false;
  for (const addrinfo* each = found; each != nullptr && !local; each = each->ai_next) {
    const Descriptor probe(socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    local = probe && bind(probe.number(), each->ai_addr, each->ai_addrlen) == 0;
  }
  freeaddrinfo(found);
  return local;
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != 0 ? name.data() : kPlaceholder;
}

}  // namespace

std::string to_text(const std::vector<Member>& members) {
  std::string text;
  for (const Member& m : members)
    text += fmt::format("{} {} {:d} {} {} {} {}\n", m.index, m.node_rank, m.holds_store, m.processes,
                        m.master_port, m.address, m.host);
  return text;
}

std::vector<Member> members_from(const std::string& text) {
  std::vector<Member> members;
  std::istringstream lines(text);
  for (Member m; lines >> m.index >> m.node_rank >> m.holds_store >> m.processes >> m.master_port >>
                 m.address >> m.host;)
    members.push_back(m);
  return members;
}

std::string to_text(const Verdict& verdict) {
  return fmt::format("{} {} {} {:d}\n{}", static_cast<int>(verdict.next), verdict.code, verdict.remaining,
                     verdict.lost, verdict.text);
}

Verdict verdict_from(const std::string& text) {
  Verdict verdict;
  int next = 0;
  std::istringstream(text) >> next >> verdict.code >> verdict.remaining >> verdict.lost;
  verdict.next = static_cast<Verdict::Next>(next);
  verdict.text = text.substr(std::min(text.size(), text.find('\n') + 1));
  return verdict;
}

Meeting::Meeting(const Options& options, Console& console, const Events& events)
    : options_(options),
      console_(console),
      events_(events),
      endpoint_(endpoint_of(options)),
      run_id_(options.rdzv_id.empty() ? "none" : options.rdzv_id) {}  // torchrun's default

Meeting::~Meeting() = default;

bool Meeting::signalled() {
  console_.write();
  pollfd entry{events_.control, POLLIN, 0};
  if (poll(&entry, 1, static_cast<int>(in_milliseconds(options_.monitor_interval).count())) <= 0)
    return false;
  const std::optional<int> signal = read_control(events_);
  if (!signal) return false;
  code_ = *signal == 0 ? 1 : 128 + *signal;
  over_ = true;
  return true;
}

void Meeting::connect() {
  const bool fixed_ranks = options_.rdzv_endpoint.empty();
  if (fixed_ranks ? options_.node_rank == 0 : is_this_machine(endpoint_.host)) {
    try {
      server_ = std::make_unique<StoreServer>(static_cast<uint16_t>(endpoint_.port), run_id_);
    } catch (const Error&) {
      if (fixed_ranks) throw;  // else another launcher on this machine has been faster
    }
  }
  const Deadline deadline = deadline_after(in_milliseconds(options_.join_timeout));
  for (bool told = false; !store_;) {
    try {
      // In short tries, for a signal has to be seen meanwhile.
      StoreClient(endpoint_.host, static_cast<uint16_t>(endpoint_.port), run_id_, milliseconds(1000));
      // A node that is cut off ends its workers about when the others go on without it.
      store_ = std::make_unique<StoreClient>(
          endpoint_.host, static_cast<uint16_t>(endpoint_.port), run_id_,
          in_milliseconds(std::clamp(options_.lost_after, 1.0, kLongestOperation)));
    } catch (const Error& e) {
      if (e.code() == ExitCode::bad_usage || Clock::now() > deadline)
        fail("the other nodes' launchers were not reached within {:g} s: {}", options_.join_timeout,
             e.what());
      if (!told) console_.say(fmt::format("waiting for the launcher that holds the store: {}", e.what()));
      told = true;
      if (signalled()) return;
    }
  }
}

void Meeting::compare_settings() {
  const std::string own = fmt::format("--nnodes {}:{} --max-restarts {}", options_.nodes.least,
                                      options_.nodes.most, options_.max_restarts);
  if (store_->compare_and_set("settings", std::nullopt, own)) return;
  const std::string others = store_->try_get("settings").value_or(own);
  if (others != own)
    fail_usage("the launchers of a run need the same flags: found {} here, {} elsewhere", own, others);
}

std::optional<Assignment> Meeting::join() {
  if (!store_) {
    connect();
    if (over_) return std::nullopt;
    compare_settings();
    round_ = std::stoi(store_->try_get("round").value_or("0")) - 1;
  }
  while (!over_) {
    ++round_;
    announce();
    if (std::optional<Assignment> assignment = wait_for_members()) return assignment;
  }
  return std::nullopt;
}

std::string Meeting::rank_key() const {
  return fmt::format("round/{}/rank/{}", round_, options_.node_rank);
}

void Meeting::claim_rank() {
  if (!options_.rdzv_endpoint.empty() || store_->compare_and_set(rank_key(), std::nullopt, host_name()))
    return;
  fail_usage(
      "two launchers have --node-rank {}: this one and one on {} (was that killed while it waited? Then "
      "start node 0 again, too)",
      options_.node_rank, store_->try_get(rank_key()).value_or("another host"));
}

void Meeting::withdraw() {
  store_->remove(fmt::format("round/{}/node/{:06}", round_, self_));
  if (options_.rdzv_endpoint.empty()) store_->remove(rank_key());
}

void Meeting::announce() {
  const std::string prefix = fmt::format("round/{}/", round_);
  claim_rank();
  self_ = static_cast<int>(store_->add(prefix + "joined", 1)) - 1;
  Member self;
  self.index = self_;
  self.node_rank = options_.rdzv_endpoint.empty() ? options_.node_rank : -1;
  self.holds_store = server_ != nullptr;
  self.processes = options_.processes;
  self.master_port =
      !options_.rdzv_endpoint.empty() && options_.master_port > 0 ? options_.master_port : free_port();
  // The others have reached the store under the endpoint's name.
  self.address = !options_.local_addr.empty() ? options_.local_addr
                 : self.holds_store           ? endpoint_.host
                                              : store_->own_address();
  self.host = host_name();
  store_->set(fmt::format("{}node/{:06}", prefix, self_), to_text(std::vector<Member>{self}));
  enough_since_.reset();
  late_ = false;
}

std::optional<Assignment> Meeting::wait_for_members() {
  const std::string prefix = fmt::format("round/{}/", round_);
  const Deadline deadline = deadline_after(in_milliseconds(options_.join_timeout));
  while (true) {
    if (round_is_over()) return std::nullopt;
    if (const std::optional<std::string> closed = store_->try_get(prefix + "closed")) {
      if (std::optional<Assignment> assignment = place(members_from(*closed))) return assignment;
    } else if (close_if_complete(); !late_ && Clock::now() > deadline) {
      const size_t came = candidates().size();
      withdraw();
      fail(
          "{} within {:g} s: are the launchers of the other nodes started, with the same endpoint and "
          "--rdzv-id?",
          waiting_text(came), options_.join_timeout);
    }
    if (signalled()) {
      withdraw();
      return std::nullopt;
    }
  }
}

std::string Meeting::waiting_text(size_t came) const {
  return fmt::format("{} of at least {} nodes came to {}", came, options_.nodes.least, store_->server());
}

bool Meeting::round_is_over() {
  const std::optional<std::string> text = store_->try_get(fmt::format("round/{}/verdict", round_));
  if (!text) return false;
  const Verdict verdict = verdict_from(*text);
  if (verdict.next == Verdict::Next::restart) return true;
  console_.say("the run has ended without this node");
  code_ = verdict.next == Verdict::Next::done ? 0 : std::max(1, verdict.code);
  over_ = true;
  leave(verdict);
  return true;
}

std::vector<Member> Meeting::candidates() {
  std::vector<Member> found;
  for (const std::string& key : store_->keys(fmt::format("round/{}/node/", round_)))
    if (const std::optional<std::string> text = store_->try_get(key))
      for (const Member& member : members_from(*text)) found.push_back(member);
  // By --node-rank; else who holds the store first: the name of its address is known to work everywhere.
  std::stable_sort(found.begin(), found.end(), [](const Member& a, const Member& b) {
    return std::pair(a.node_rank, !a.holds_store) < std::pair(b.node_rank, !b.holds_store);
  });
  return found;
}

void Meeting::close_if_complete() {
  std::vector<Member> found = candidates();
  const auto least = static_cast<size_t>(options_.nodes.least),
             most = static_cast<size_t>(options_.nodes.most);
  if (found.size() < least) {
    enough_since_.reset();
    return;
  }
  if (!enough_since_) {
    enough_since_ = Clock::now();
    if (found.size() < most)
      console_.say(fmt::format("{} of {} nodes: waiting for more nodes, at most {:g} s", found.size(), most,
                               options_.last_call));
  }
  const bool all_there = found.size() >= most || (expected_ && found.size() >= *expected_);
  if (!all_there && Clock::now() - *enough_since_ < in_milliseconds(options_.last_call)) return;
  if (found.size() > most) found.resize(most);
  const std::string prefix = fmt::format("round/{}/", round_);
  if (store_->compare_and_set(prefix + "closed", std::nullopt, to_text(found)))
    store_->set("round", std::to_string(round_));
}

std::optional<Assignment> Meeting::place(const std::vector<Member>& members) {
  Assignment assignment;
  assignment.node = -1;
  int rank = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i].index == self_) {
      assignment.node = static_cast<int>(i);
      assignment.first_rank = rank;
    }
    rank += members[i].processes;
  }
  if (assignment.node < 0) {
    if (!late_) console_.say("the run goes on without this node; it takes part from the next restart on");
    late_ = true;
    return std::nullopt;
  }
  assignment.nodes = static_cast<int>(members.size());
  assignment.world_size = rank;
  assignment.master_addr = members.front().address;
  assignment.master_port = members.front().master_port;
  assignment.run_id = run_id_;
  assignment.attempt = round_;
  members_ = members;
  console_.say(fmt::format("node {} of {}: ranks {} to {} of {}, which meet at {}:{}", assignment.node,
                           assignment.nodes, assignment.first_rank,
                           assignment.first_rank + options_.processes - 1, rank, assignment.master_addr,
                           assignment.master_port));
  return assignment;
}

std::unique_ptr<RoundWatch> Meeting::watch() {
  return std::make_unique<RoundWatch>(options_, *store_, round_, self_, members_);
}

void Meeting::leave(const Verdict& verdict) {
  if (verdict.next == Verdict::Next::restart) {
    expected_ = static_cast<size_t>(std::max(verdict.remaining, 1));
    return;
  }
  try {
    const std::string prefix = fmt::format("round/{}/", round_);
    store_->set(fmt::format("{}left/{}", prefix, self_), "yes");
    if (!server_) return;
    const size_t all = store_->keys(prefix + "node/").size() - (verdict.lost ? 1 : 0);
    const Deadline deadline = deadline_after(in_milliseconds(options_.lost_after));
    while (store_->keys(prefix + "left/").size() < all && Clock::now() < deadline) {
      // A signal does not shorten this; the end of the outer process does.
      if (signalled() && code_ == 1) return;
    }
  } catch (const Error&) {
    // The store is gone, and nobody needs it.
  }
}

}  // namespace polar::launch
