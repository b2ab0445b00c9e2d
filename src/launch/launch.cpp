#include "launch/launch.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <array>
#include <memory>
#include <random>
#include <sstream>

#include "base/error.h"
#include "comm/socket.h"
#include "launch/meeting.h"
#include "launch/supervise.h"

namespace polar::launch {
namespace {

namespace fs = std::filesystem;

constexpr int kDefaultPort = 29500;  // torchrun's

std::string random_id() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

// The exit codes of `polartrain train` that a restart would only repeat: a wrong configuration, stopped from
// outside after saving, stopped by the loss guard.
bool is_final(const Options& options, int status) {
  const int code = exit_code_of(status);
  return options.own_binary && code >= static_cast<int>(ExitCode::bad_usage) &&
         code <= static_cast<int>(ExitCode::stopped_by_guard);
}

std::string to_text(const Options& options, const Failure& failure) {
  std::string text = fmt::format("first failure: {}: {}", failure.worker, describe_status(failure.status));
  if (options.own_binary && exit_code_of(failure.status) == static_cast<int>(ExitCode::hung))
    text += " (the group hung; which rank, and where, is in the last lines of the output)";
  if (WIFSIGNALED(failure.status) && WTERMSIG(failure.status) == SIGKILL)
    text += "\n  SIGKILL comes from outside: out of memory (see dmesg), a batch system, or a person";
  if (failure.tail.empty()) text += "\n  it has written nothing";
  for (const std::string& line : failure.tail) text += "\n  | " + line;
  return text;
}

// The launcher of one node: attempts until one succeeds or no restart is left.
class Agent {
 public:
  Agent(const Options& options, const std::string& program, const Events& events)
      : options_(options), program_(program), events_(events) {}

  int run() {
    try {
      say_threads();
      const int code = options_.nodes.most == 1 ? attempts() : rounds();
      console_.finish(kLastWords);
      return code;
    } catch (...) {
      console_.finish(kLastWords);
      throw;
    }
  }

 private:
  static constexpr double kLastWords = 5;  // s that a slow reader of the output gets at the end

  void say_threads() {
    if (options_.processes > 1 && std::getenv("OMP_NUM_THREADS") == nullptr)
      console_.say(
          fmt::format("{} workers on this node: OMP_NUM_THREADS={} each, the cores divided among them",
                      options_.processes, default_threads(options_.processes)));
    if (options_.redirects.any() || options_.tee.any())
      console_.say(fmt::format("output of the workers in {}", options_.log_dir.string()));
  }

  void say_lines(const std::string& text) {
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) console_.say(line);
  }

  // One node.
  int attempts() {
    const std::string run_id = options_.rdzv_id.empty() ? random_id() : options_.rdzv_id;
    for (int attempt = 0;; ++attempt) {
      const Assignment assignment = assign(run_id, attempt);
      const Outcome outcome = WorkerGroup(options_, assignment, program_, console_, events_).run();
      if (outcome.failure) say_lines(to_text(options_, *outcome.failure));
      if (!restarts(outcome, attempt)) return outcome.code;
      console_.say(fmt::format("restart {} of {}", attempt + 1, options_.max_restarts));
    }
  }

  // Several nodes.
  int rounds() {
    Meeting meeting(options_, console_, events_);
    while (const std::optional<Assignment> assignment = meeting.join()) {
      std::unique_ptr<RoundWatch> watch = meeting.watch();
      Outcome outcome = run_watched(*assignment, *watch);
      if (outcome.ending == Ending::abandoned) return outcome.code;
      const Verdict verdict = settle(*assignment, outcome, *watch, meeting.holds_store());
      watch.reset();
      say_lines(verdict.text);
      meeting.leave(verdict);
      if (outcome.ending == Ending::signalled) return outcome.code;
      if (verdict.next != Verdict::Next::restart) return verdict.code >= 0 ? verdict.code : outcome.code;
      console_.say("all nodes start again");
    }
    return meeting.code();
  }

  Outcome run_watched(const Assignment& assignment, RoundWatch& watch) {
    Events events = events_;
    events.news = watch.descriptor();
    try {
      return WorkerGroup(options_, assignment, program_, console_, events).run();
    } catch (const Error& e) {
      watch.conclude(false, RoundWatch::Gone::none, static_cast<int>(e.code()),
                     fmt::format("node {} cannot go on: {}", assignment.node, e.what()));
      throw;
    }
  }

  Verdict settle(const Assignment& assignment, Outcome& outcome, RoundWatch& watch, bool holds_store) {
    if (outcome.ending == Ending::succeeded) {
      watch.succeeded();
      wait_for_the_others(outcome, watch);
    }
    if (outcome.ending == Ending::failed && options_.nodes.least < options_.nodes.most &&
        !WIFSIGNALED(outcome.failure->status))
      listen_to_the_others(watch);
    if (outcome.ending == Ending::failed)
      return watch.conclude(!is_final(options_, outcome.failure->status), RoundWatch::Gone::none,
                            outcome.code, to_text(options_, *outcome.failure));
    if (outcome.ending == Ending::signalled) {
      // Under MIN:MAX the others go on without a node that was told to stop, if they are enough.
      const bool enough = !holds_store && options_.nodes.least < options_.nodes.most &&
                          assignment.nodes > options_.nodes.least;
      return watch.conclude(enough, RoundWatch::Gone::stopped, -1,
                            fmt::format("node {} was told to stop", assignment.node));
    }
    return watch.verdict();
  }

  // A worker that ends by itself may have found its peers gone with their node, whose loss is foreseen under
  // MIN:MAX. So nothing is concluded before the other launchers have given a sign of life, or there is a
  // verdict.
  void listen_to_the_others(const RoundWatch& watch) {
    try {
      const std::vector<std::string> before = watch.beats_of_others();
      while (!watch.all_heard(before)) {
        console_.write();
        std::array<pollfd, 2> entries{{{watch.descriptor(), POLLIN, 0}, {events_.control, POLLIN, 0}}};
        if (poll(entries.data(), entries.size(), static_cast<int>(options_.monitor_interval * 1000)) > 0)
          return;
      }
    } catch (const Error&) {  // the store is gone: the watch says so
    }
  }

  void wait_for_the_others(Outcome& outcome, const RoundWatch& watch) {
    while (true) {
      console_.write();
      std::array<pollfd, 3> entries{{{watch.descriptor(), POLLIN, 0},
                                     {events_.control, POLLIN, 0},
                                     {console_.waiting_for(), POLLOUT, 0}}};
      poll(entries.data(), entries.size(), -1);
      if (entries[0].revents != 0) return;
      const std::optional<int> signal = read_control(events_);
      if (!signal) continue;
      outcome.ending = Ending::signalled;
      outcome.code = 128 + *signal;
      return;
    }
  }

  Assignment assign(const std::string& run_id, int attempt) const {
    Assignment assignment;
    assignment.world_size = options_.processes;
    assignment.master_addr = options_.master_addr.empty() ? "127.0.0.1" : options_.master_addr;
    assignment.master_port = options_.standalone        ? free_port()
                             : options_.master_port > 0 ? options_.master_port
                                                        : kDefaultPort;
    assignment.run_id = run_id;
    assignment.attempt = attempt;
    return assignment;
  }

  bool restarts(const Outcome& outcome, int attempt) {
    if (outcome.ending != Ending::failed || attempt >= options_.max_restarts) return false;
    if (const std::optional<int> signal = read_control(events_)) return false;
    if (!is_final(options_, outcome.failure->status)) return true;
    console_.say(fmt::format("no restart after {}: it would end the same way",
                             describe_status(outcome.failure->status)));
    return false;
  }

  const Options& options_;
  const std::string& program_;
  const Events& events_;
  Console console_;
};

}  // namespace

int run(const Options& given) {
  check(given);
  Options options = given;
  // One node meets nobody: an endpoint (torchrun's users write localhost:0) changes nothing.
  if (options.nodes.most == 1 && options.master_addr.empty() && options.master_port == 0)
    options.standalone = true;
  if ((options.redirects.any() || options.tee.any()) && options.log_dir.empty()) {
    std::string name = fs::temp_directory_path() / "polartrain-launch-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) fail("cannot make a folder for the logs in {}", name);
    options.log_dir = name;
  }
  if (!options.log_dir.empty() && !options.redirects.any() && !options.tee.any())
    options.tee.all = kStdout | kStderr;
  const std::string program = find_program(options.command.front());
  return supervise(options.signals,
                   [&](const Events& events) { return Agent(options, program, events).run(); });
}

}  // namespace polar::launch
