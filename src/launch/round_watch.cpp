#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "launch/meeting.h"

namespace polar::launch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kBeatsBeforeLost = 5;

Descriptor make_event() {
  Descriptor event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) fail("cannot make an eventfd: errno {}", errno);
  return event;
}

void notify(const Descriptor& event) {
  const uint64_t one = 1;
  if (write(event.number(), &one, sizeof one) != sizeof one)
    fail("cannot write to an eventfd: errno {}", errno);
}

}  // namespace

RoundWatch::RoundWatch(const Options& options, StoreClient& store, int round, int self,
                       std::vector<Member> members)
    : options_(options),
      store_(store),
      prefix_(fmt::format("round/{}/", round)),
      round_(round),
      self_(self),
      members_(std::move(members)),
      news_(make_event()),
      stop_(make_event()),
      beats_(members_.size(), Beat{"", Clock::now()}) {
  // Signals are the main thread's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

RoundWatch::~RoundWatch() {
  notify(stop_);
  thread_.join();
}

void RoundWatch::run() {
  const auto beat_interval = std::chrono::duration<double>(options_.lost_after / kBeatsBeforeLost);
  Clock::time_point last_beat{};
  const int pause = std::max(1, static_cast<int>(options_.monitor_interval * 1000));
  try {
    for (pollfd entry{stop_.number(), POLLIN, 0};;) {
      const bool beat_now = Clock::now() - last_beat >= beat_interval;
      if (beat_now) last_beat = Clock::now();
      if (look(beat_now) || poll(&entry, 1, pause) > 0) return;
    }
  } catch (const Error& e) {
    Verdict lost;
    lost.code = 1;
    lost.text = fmt::format("the launchers' store is gone, and with it the run: {}", e.what());
    finish(std::move(lost));
  }
}

// True if there is a verdict.
bool RoundWatch::look(bool beat_now) {
  if (const std::optional<std::string> text = store_.try_get(prefix_ + "verdict")) {
    finish(verdict_from(*text));
    return true;
  }
  check_success();
  if (beat_now) {
    store_.set(fmt::format("{}beat/{}", prefix_, self_), std::to_string(++beat_));
    check_beats();
  }
  return false;
}

void RoundWatch::finish(Verdict verdict) {
  {
    const std::lock_guard lock(mutex_);
    verdict_ = std::move(verdict);
  }
  notify(news_);
}

void RoundWatch::check_success() {
  if (!succeeded_) return;
  if (!told_success_) store_.set(fmt::format("{}succeeded/{}", prefix_, self_), "yes");
  told_success_ = true;
  if (store_.keys(prefix_ + "succeeded/").size() < members_.size()) return;
  Verdict done;
  done.next = Verdict::Next::done;
  done.code = 0;
  done.remaining = static_cast<int>(store_.keys(prefix_ + "node/").size());
  store_.compare_and_set(prefix_ + "verdict", std::nullopt, to_text(done));
}

std::string RoundWatch::beat_of(const Member& member) const {
  return store_.try_get(fmt::format("{}beat/{}", prefix_, member.index)).value_or("");
}

std::vector<std::string> RoundWatch::beats_of_others() const {
  std::vector<std::string> beats;
  for (const Member& member : members_)
    if (member.index != self_) beats.push_back(beat_of(member));
  return beats;
}

bool RoundWatch::all_heard(const std::vector<std::string>& before) const {
  const std::vector<std::string> now = beats_of_others();
  for (size_t i = 0; i < now.size(); ++i)
    if (now[i] == before[i]) return false;
  return true;
}

void RoundWatch::check_beats() {
  const Clock::time_point now = Clock::now();
  for (size_t i = 0; i < members_.size(); ++i) {
    if (members_[i].index == self_) continue;
    const std::string value = beat_of(members_[i]);
    if (value != beats_[i].value) beats_[i] = {value, now};
    const double silent = std::chrono::duration<double>(now - beats_[i].changed).count();
    if (silent < options_.lost_after) continue;
    conclude(true, Gone::lost, 1,
             fmt::format("node {} (host {}) is lost: its launcher has not been heard of for {:.0f} s", i,
                         members_[i].host, silent));
    return;
  }
}

Verdict RoundWatch::conclude(bool can_restart, Gone gone, int code, const std::string& text) {
  const int missing = gone == Gone::none ? 0 : 1;
  const int left = static_cast<int>(members_.size()) - missing;
  Verdict verdict;
  verdict.code = code;
  verdict.text = text;
  verdict.remaining = static_cast<int>(store_.keys(prefix_ + "node/").size()) - missing;
  verdict.lost = gone == Gone::lost;
  const int64_t failures = std::stoll(store_.try_get("failures").value_or("0"));
  // With --nnodes MIN:MAX the loss of a node is foreseen; anything else uses up one of --max-restarts.
  const bool foreseen =
      gone != Gone::none && options_.nodes.least < options_.nodes.most && left >= options_.nodes.least;
  const bool restart = can_restart && (foreseen || failures < options_.max_restarts);
  verdict.next = restart ? Verdict::Next::restart : Verdict::Next::end;
  if (!store_.compare_and_set(prefix_ + "verdict", std::nullopt, to_text(verdict)))
    return verdict_from(store_.try_get(prefix_ + "verdict").value_or(to_text(verdict)));
  if (restart && !foreseen) store_.add("failures", 1);
  if (restart) store_.set("round", std::to_string(round_ + 1));
  return verdict;
}

}  // namespace polar::launch
