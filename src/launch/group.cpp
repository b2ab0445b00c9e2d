#include "launch/group.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/error.h"
#include "launch/descendants.h"

namespace polar::launch {
namespace {

constexpr auto kAfterKill = std::chrono::seconds(10);  // then a process is said not to end at all
constexpr double kLeftoverSeconds = 2;                 // what helpers of ended workers get after SIGTERM

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

void drain(int descriptor) {
  std::array<char, sizeof(signalfd_siginfo)> ignored;
  while (read(descriptor, ignored.data(), ignored.size()) > 0) continue;
}

// The children that have ended, and how.
std::vector<std::pair<pid_t, int>> ended_children() {
  std::vector<std::pair<pid_t, int>> ended;
  int status = 0;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) ended.emplace_back(pid, status);
  return ended;
}

bool is_signal(int status) {
  return WIFSIGNALED(status);
}

}  // namespace

std::optional<int> read_control(const Events& events) {
  pollfd entry{events.control, POLLIN, 0};
  if (poll(&entry, 1, 0) <= 0) return std::nullopt;
  unsigned char signal = 0;
  return read(events.control, &signal, 1) == 1 ? signal : 0;
}

WorkerGroup::WorkerGroup(const Options& options, const Assignment& assignment, const std::string& program,
                         Console& console, const Events& events)
    : options_(options), assignment_(assignment), program_(program), console_(console), events_(events) {}

Outcome WorkerGroup::run() {
  try {
    start();
    watch();
  } catch (...) {
    kill_descendants();
    throw;
  }
  for (Worker& worker : workers_) worker.close_pipes();
  if (outcome_.ending == Ending::signalled || outcome_.ending == Ending::recalled)
    outcome_.code = code_after_signal();
  return outcome_;
}

void WorkerGroup::start() {
  for (int local_rank = 0; local_rank < options_.processes; ++local_rank)
    workers_.emplace_back(options_, assignment_, program_, local_rank, console_);
}

void WorkerGroup::watch() {
  while (running() > 0 && outcome_.ending != Ending::abandoned) {
    wait_for_events();
    after_deadline();
  }
  if (outcome_.ending == Ending::abandoned)
    kill_descendants();
  else
    end_leftovers();
}

int WorkerGroup::running() const {
  return static_cast<int>(
      std::count_if(workers_.begin(), workers_.end(), [](const Worker& w) { return w.running(); }));
}

void WorkerGroup::wait_for_events() {
  std::vector<pollfd> entries{{events_.children, POLLIN, 0},
                              {events_.control, POLLIN, 0},
                              {outcome_.ending == Ending::succeeded ? events_.news : -1, POLLIN, 0},
                              {console_.waiting_for(), POLLOUT, 0}};
  const size_t fixed = entries.size();
  std::vector<Worker*> owners;
  // With a full queue the workers wait, as they would for a slow terminal.
  for (Worker& worker : workers_) {
    if (console_.full()) break;
    for (const int pipe : worker.open_pipes()) {
      entries.push_back({pipe, POLLIN, 0});
      owners.push_back(&worker);
    }
  }
  int timeout = -1;
  if (deadline_) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline_ - Clock::now()).count();
    timeout = static_cast<int>(std::clamp<int64_t>(left, 0, 1'000'000));
  }
  if (poll(entries.data(), entries.size(), timeout) < 0 && errno != EINTR)
    fail("poll failed: errno {}", errno);
  for (size_t i = fixed; i < entries.size(); ++i)
    if (entries[i].revents != 0) owners[i - fixed]->read_pipe(entries[i].fd);
  if (entries[0].revents != 0) reap();
  if (entries[1].revents != 0) after_control();
  if (entries[2].revents != 0) after_news();
  console_.write();
}

void WorkerGroup::after_control() {
  const std::optional<int> signal = read_control(events_);
  if (!signal) return;
  if (*signal == 0) {
    outcome_.ending = Ending::abandoned;
    outcome_.code = 1;
    return;
  }
  passed_signal_ = *signal;
  // A signal does not make good what has failed before.
  if (outcome_.ending != Ending::failed) outcome_.ending = Ending::signalled;
  console_.say(fmt::format("{}: passed on to the workers, SIGKILL after {:g} s", signal_name(*signal),
                           options_.grace_period));
  begin_to_stop(*signal);
}

void WorkerGroup::after_news() {
  outcome_.ending = Ending::recalled;
  passed_signal_ = SIGTERM;
  begin_to_stop(SIGTERM);
}

void WorkerGroup::signal_workers(int signal) const {
  for (const Worker& worker : workers_)
    if (worker.running()) kill(-worker.pid(), signal);  // the whole group, as a terminal would do it
}

void WorkerGroup::begin_to_stop(int signal) {
  signal_workers(signal);
  if (!deadline_)
    deadline_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                   std::chrono::duration<double>(options_.grace_period));
}

void WorkerGroup::after_deadline() {
  if (!deadline_ || Clock::now() < *deadline_ || running() == 0) return;
  std::string names;
  for (const Worker& worker : workers_)
    if (worker.running()) names += (names.empty() ? "" : ", ") + worker.name();
  if (killed_) fail("did not end by SIGKILL either (a broken driver or file system?): {}", names);
  console_.say(fmt::format("{:g} s are over, SIGKILL to {}", options_.grace_period, names));
  signal_descendants(SIGKILL);
  killed_ = true;
  deadline_ = Clock::now() + kAfterKill;
}

void WorkerGroup::reap() {
  drain(events_.children);
  std::vector<std::list<Worker>::iterator> failed;
  for (const auto& [pid, status] : ended_children()) {
    const auto worker = std::find_if(workers_.begin(), workers_.end(),
                                     [pid = pid](const Worker& w) { return w.running() && w.pid() == pid; });
    if (worker == workers_.end()) continue;  // a process that a worker had left behind
    worker->ended(status);
    if (status != 0) failed.push_back(worker);
  }
  if (failed.empty() || deadline_) return;
  // Of several that ended at once: a crash makes the others fail, not the other way round.
  const auto crashed =
      std::find_if(failed.begin(), failed.end(), [](auto w) { return is_signal(w->status()); });
  note_failure(crashed == failed.end() ? failed.front() : *crashed);
}

void WorkerGroup::note_failure(std::list<Worker>::iterator first) {
  for (const int pipe : first->open_pipes()) first->read_pipe(pipe);
  outcome_.ending = Ending::failed;
  outcome_.code = exit_code_of(first->status());
  outcome_.failure = Failure{fmt::format("rank {} (local rank {}, node {}, host {}, pid {})", first->rank(),
                                         first->local_rank(), assignment_.node, host_name(), first->pid()),
                             first->status(), first->tail()};
  const int others = running();
  console_.say(fmt::format("{} failed: {}{}", first->name(), describe_status(first->status()),
                           others == 0
                               ? ""
                               : fmt::format("; stopping the {} other{} (SIGTERM, SIGKILL after {:g} s)",
                                             others, others == 1 ? "" : "s", options_.grace_period)));
  begin_to_stop(SIGTERM);
}

void WorkerGroup::end_leftovers() {
  const std::vector<pid_t> left = descendants();
  if (left.empty()) return;
  signal_descendants(SIGTERM);
  const auto end =
      Clock::now() + std::chrono::duration<double>(std::min(kLeftoverSeconds, options_.grace_period));
  while (Clock::now() < end) {
    ended_children();
    if (descendants().empty()) return;
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now());
    pollfd entry{events_.children, POLLIN, 0};
    poll(&entry, 1, static_cast<int>(std::max<int64_t>(wait.count(), 0)));
    drain(events_.children);
  }
  if (const std::vector<pid_t> stuck = kill_descendants(); !stuck.empty())
    fail("{} processes that the workers have left behind do not end by SIGKILL, the first is {}",
         stuck.size(), stuck.front());
}

// An exit code of its own says more than 3 ("stopped, all saved"), that more than death by the signal passed
// on.
int WorkerGroup::code_after_signal() const {
  constexpr int kSaved = 3;
  const int by_signal = 128 + passed_signal_;
  int code = 0;
  for (const Worker& worker : workers_) {
    const int own = exit_code_of(worker.status());
    if (own != 0 && own != kSaved && own != by_signal) return own;
    if (own == kSaved || code == 0) code = own;
  }
  return code;
}

}  // namespace polar::launch
