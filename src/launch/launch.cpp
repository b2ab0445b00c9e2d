#include "launch/launch.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <random>

#include "base/error.h"
#include "launch/supervise.h"

namespace polar::launch {
namespace {

namespace fs = std::filesystem;

constexpr int kDefaultPort = 29500;  // torchrun's

// A port of this machine that is free now.
int free_port() {
  const Descriptor socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(socket_.number(), generic, size) != 0 || getsockname(socket_.number(), generic, &size) != 0)
    fail("no free TCP port was found for the workers to meet at; give one with --master-port");
  return ntohs(address.sin_port);
}

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

void report(Console& console, const Failure& failure) {
  console.say(fmt::format("first failure: {}: {}", failure.worker, describe_status(failure.status)));
  if (WIFSIGNALED(failure.status) && WTERMSIG(failure.status) == SIGKILL)
    console.say("  SIGKILL comes from outside: out of memory (see dmesg), a batch system, or a person");
  if (failure.tail.empty()) console.say("  it has written nothing");
  for (const std::string& line : failure.tail) console.say("  | " + line);
}

// The launcher of one node: attempts until one succeeds or no restart is left.
class Agent {
 public:
  Agent(const Options& options, const std::string& program, const Events& events)
      : options_(options), program_(program), events_(events) {}

  int run() {
    try {
      const int code = attempts();
      console_.finish(kLastWords);
      return code;
    } catch (...) {
      console_.finish(kLastWords);
      throw;
    }
  }

 private:
  static constexpr double kLastWords = 5;  // s that a slow reader of the output gets at the end

  int attempts() {
    const std::string run_id = options_.rdzv_id.empty() ? random_id() : options_.rdzv_id;
    if (options_.processes > 1 && std::getenv("OMP_NUM_THREADS") == nullptr)
      console_.say(
          fmt::format("{} workers on this node: OMP_NUM_THREADS={} each, the cores divided among them",
                      options_.processes, default_threads(options_.processes)));
    for (int attempt = 0;; ++attempt) {
      const Assignment assignment = assign(run_id, attempt);
      const Outcome outcome = WorkerGroup(options_, assignment, program_, console_, events_).run();
      if (outcome.failure) report(console_, *outcome.failure);
      if (!restarts(outcome, attempt)) return outcome.code;
      console_.say(fmt::format("restart {} of {}", attempt + 1, options_.max_restarts));
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
  if (options.nodes.most == 1 && options.rdzv_endpoint.empty() && options.master_addr.empty() &&
      options.master_port == 0)
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
