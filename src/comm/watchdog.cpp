#include "comm/watchdog.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "comm/quiet_thread.h"

namespace polar {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr milliseconds kLastWords{1000};  // for the others to read why, where this process holds the store
constexpr milliseconds kMostPatience{2000};
constexpr int kSilentBeats = 3;  // missing ones that are worth a word
constexpr int kRanksALook = 64;  // of more ranks each looks at all more seldom, for the sake of the store
constexpr int kSuspicions = 2;   // looks in a row, for what one look sees may be from before this one slept
constexpr auto kUnwind = 5s, kMostUnwind = 30s;  // what a failed process gets to end in by itself

double seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

Watchdog::Watchdog(Rendezvous& rendezvous, const ProcessGroup& group, milliseconds timeout,
                   const Activity& activity)
    : rendezvous_(rendezvous),
      group_(group),
      activity_(activity),
      timeout_(timeout),
      interval_(std::clamp<milliseconds>(timeout / 5, 100ms, 1000ms)),
      patience_(std::clamp<milliseconds>(timeout / 4, 200ms, kMostPatience)),
      limit_(seconds(timeout + std::max<milliseconds>(timeout / 10, 1000ms))),
      silence_(kSilentBeats * seconds(interval_)),
      last_look_(Clock::now()),
      answered_(last_look_),
      seen_(last_look_) {
  thread_ = quiet_thread([this] { run(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::string Watchdog::beat_key(int rank) const {
  return fmt::format("{}beat/{}", rendezvous_.prefix(), rank);
}

void Watchdog::run() {
  std::unique_lock lock(mutex_);
  while (!stop_) {
    lock.unlock();
    look();
    lock.lock();
    changed_.wait_for(lock, interval_, [&] { return stop_; });
  }
  const bool orderly = !failure_;
  lock.unlock();
  if (!orderly || !client_) return;  // after a failure its place is of interest
  try {
    client_->remove(beat_key(group_.rank));
  } catch (const Error& error) {
    log::debug("watchdog: {}", error.what());
  }
}

void Watchdog::look() {
  const Clock::time_point begin = Clock::now();
  // This process itself was stopped, or the machine slept: whatever seems old now may not be.
  const bool slept = begin - last_look_ > 3 * (interval_ + patience_);
  last_look_ = begin;
  if (slept) answered_ = begin;
  bool answered = false, fresh = false;
  try {
    fresh = exchange();
    answered = true;
    answered_ = Clock::now();
  } catch (const std::exception& error) {
    log::debug("watchdog: {}", error.what());
  }

  std::unique_lock lock(mutex_);
  if (stop_) return;
  const std::optional<GroupFailure> failure = failure_;
  const auto unwinding = Clock::now() - failed_;
  lock.unlock();
  if (failure) {
    if (unwinding <= std::clamp<Clock::duration>(timeout_, kUnwind, kMostUnwind)) return;
    const std::string own = whereabouts({group_.rank, "", 0.0, activity_.state()}, silence_);
    end_process({failure->code,
                 fmt::format("the run has failed, and {} does not end by itself ({}): {}",
                             rendezvous_.describe(group_.rank), own, failure->cause),
                 failure->report});
  }
  if (answered && !fresh) return;
  const std::optional<std::string> cause = hang();
  suspicions_ = cause && !slept ? suspicions_ + 1 : 0;
  if (suspicions_ >= kSuspicions) end_process({ExitCode::hung, *cause, report(sightings())});
}

// True if it has seen all ranks.
bool Watchdog::exchange() {
  const StoreAddress& store = rendezvous_.address();
  if (!client_) client_.emplace(store.host, store.port, store.run_id, patience_);
  client_->set(beat_key(group_.rank), encode(activity_.state()));
  std::optional<GroupFailure> failure = rendezvous_.find_failure(*client_);
  std::vector<Sighting> ranks;
  const bool all = looks_++ % (group_.world_size / kRanksALook + 1) == 0;
  if (all) ranks = fetch(*client_);

  const std::lock_guard lock(mutex_);
  if (all) {
    last_seen_ = std::move(ranks);
    seen_ = Clock::now();
  }
  if (failure && !failure_) {
    failure_ = std::move(failure);
    failed_ = Clock::now();
  }
  return all;
}

std::vector<Sighting> Watchdog::fetch(StoreClient& client) const {
  const std::string prefix = rendezvous_.prefix() + "beat/";
  std::vector<Sighting> ranks;
  for (const StoreClient::Entry& entry : client.values(prefix)) {
    const std::optional<Activity::State> state = decode_activity(entry.value);
    if (!state) continue;
    const int rank = std::atoi(entry.key.c_str() + prefix.size());
    ranks.push_back({rank, rendezvous_.describe(rank), seconds(entry.age), *state});
  }
  std::sort(ranks.begin(), ranks.end(), [](const Sighting& a, const Sighting& b) { return a.rank < b.rank; });
  return ranks;
}

// As they were seen last, with the time that has passed since.
std::vector<Sighting> Watchdog::sightings() const {
  const std::lock_guard lock(mutex_);
  std::vector<Sighting> ranks = last_seen_;
  for (Sighting& rank : ranks) {
    rank.silent += seconds(Clock::now() - seen_);
    if (rank.rank != group_.rank) continue;
    rank.silent = 0.0;
    rank.state = activity_.state();
  }
  return ranks;
}

// What is wrong, if something is.
std::optional<std::string> Watchdog::hang() const {
  if (const double unanswered = seconds(Clock::now() - answered_); unanswered > limit_)
    return fmt::format("the run's store at {}, in {}, has not answered for {:.1f} s",
                       endpoint_text(rendezvous_.address().host, rendezvous_.address().port),
                       group_.host_store ? "the launcher of node 0" : rendezvous_.describe(0), unanswered);
  std::vector<std::string> found;
  for (const Sighting& rank : sightings()) {
    const bool stalled =
        rank.state.bound == Activity::Bound::timeout && rank.state.progress_age + rank.silent > limit_;
    if (rank.silent <= limit_ && !stalled) continue;
    found.push_back(fmt::format("{}: {}{}", rank.name,
                                rank.silent > limit_ ? "" : "no progress: ", whereabouts(rank, silence_)));
  }
  if (found.empty()) return std::nullopt;
  const std::string others = found.size() == 1 ? "" : fmt::format(" (and {} more)", found.size() - 1);
  return fmt::format("the run hangs: {}{}; the timeout is {} s", found.front(), others, seconds(timeout_));
}

std::string Watchdog::report(const std::vector<Sighting>& ranks) const {
  return whereabouts(ranks, silence_, limit_);
}

GroupFailure Watchdog::give_up(const std::string& cause, ExitCode code) noexcept {
  GroupFailure failure{code, cause, ""};
  try {
    if (const std::lock_guard lock(mutex_); std::exchange(gave_up_, true) && failure_) return *failure_;
    const StoreAddress& store = rendezvous_.address();
    try {
      StoreClient client(store.host, store.port, store.run_id, patience_);
      client.set(beat_key(group_.rank), encode(activity_.state()));
      std::vector<Sighting> ranks = fetch(client);
      const std::lock_guard lock(mutex_);
      last_seen_ = std::move(ranks);
      seen_ = Clock::now();
    } catch (const Error& error) {  // the store is gone: what was seen last
      log::debug("watchdog: {}", error.what());
    }
    failure.report = report(sightings());
    if (const auto first = rendezvous_.report_failure(failure); first && first->cause != cause) {
      failure.code = first->code;
      failure.cause += fmt::format(" (reported first: {})", first->cause);
      failure.report = first->report;
    }
    const std::lock_guard lock(mutex_);
    if (!failure_) failed_ = Clock::now();
    failure_ = failure;
  } catch (const std::exception& error) {
    log::debug("watchdog: {}", error.what());
  }
  return failure;
}

std::optional<GroupFailure> Watchdog::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void Watchdog::end_process(const GroupFailure& failure) {
  const int status = static_cast<int>(failure.code);
  quiet_thread([status] {  // should whoever reads the log hold it up
    std::this_thread::sleep_for(5s);
    _exit(status);
  })
      .detach();
  rendezvous_.report_failure(failure);
  log::finish_progress();
  log::error("{}{}", failure.cause, failure.report);
  if (rendezvous_.holds_store()) std::this_thread::sleep_for(kLastWords);
  _exit(status);
}

}  // namespace polar
