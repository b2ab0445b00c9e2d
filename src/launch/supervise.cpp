#include "launch/supervise.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>

#include "base/error.h"
#include "base/log.h"
#include "launch/descendants.h"

namespace polar::launch {
namespace {

sigset_t handled_set(const std::vector<int>& signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : signals) {
    struct sigaction current {};
    sigaction(number, nullptr, &current);
    if (number == SIGHUP && current.sa_handler == SIG_IGN) continue;
    signal(number, SIG_DFL);  // one that is ignored would never be read
    sigaddset(&set, number);
  }
  sigaddset(&set, SIGCHLD);
  return set;
}

Descriptor make_signalfd(const sigset_t& set, int flags) {
  Descriptor descriptor(signalfd(-1, &set, SFD_CLOEXEC | flags));
  if (!descriptor) fail("cannot wait for signals: signalfd: {}", std::strerror(errno));
  return descriptor;
}

int run_body(const Descriptor& control, const std::function<int(const Events&)>& body) {
  try {
    setpgid(0, 0);  // or else the terminal's Ctrl-C would reach both processes
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTTOU, SIG_IGN);  // a background group may still write to the terminal
    become_subreaper();
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    const Descriptor children = make_signalfd(child, SFD_NONBLOCK);
    return body({.children = children.number(), .control = control.number()});
  } catch (const Error& e) {
    log::error("{}", e.what());
    return static_cast<int>(e.code());
  } catch (const std::exception& e) {
    log::error("{}", e.what());
  }
  return static_cast<int>(ExitCode::failed);
}

// What became of the inner process, if it has ended.
bool has_ended(pid_t inner, int& status) {
  bool ended = false;
  int each = 0;
  for (pid_t pid; (pid = waitpid(-1, &each, WNOHANG)) > 0;) {
    if (pid != inner) continue;
    ended = true;
    status = each;
  }
  return ended;
}

int watch(pid_t inner, const Descriptor& signals, const Descriptor& control) {
  int status = 0;
  while (true) {
    signalfd_siginfo info{};
    if (read(signals.number(), &info, sizeof info) != sizeof info) continue;  // interrupted
    const auto number = static_cast<unsigned char>(info.ssi_signo);
    if (number == SIGCHLD) {
      if (has_ended(inner, status)) break;
    } else if (write(control.number(), &number, 1) != 1) {
      log::warning("{} could not be passed on: {}", signal_name(number), std::strerror(errno));
    }
  }
  if (WIFSIGNALED(status))
    log::error("the launcher's inner process was ended by {}: the workers are killed",
               signal_name(WTERMSIG(status)));
  kill_descendants();
  return exit_code_of(status);
}

}  // namespace

int supervise(const std::vector<int>& signals, const std::function<int(const Events&)>& body) {
  become_subreaper();
  const sigset_t set = handled_set(signals);
  sigset_t before;
  sigprocmask(SIG_BLOCK, &set, &before);
  signal(SIGPIPE, SIG_IGN);  // of the control pipe, should the inner process be gone
  Pipe control = make_pipe();
  fcntl(control.write.number(), F_SETFL, O_NONBLOCK);
  const Descriptor received = make_signalfd(set, 0);
  const pid_t inner = fork();
  if (inner < 0) fail("cannot fork: {}", std::strerror(errno));
  if (inner == 0) {
    control.write.reset();
    _exit(run_body(control.read, body));
  }
  control.read.reset();
  const int code = watch(inner, received, control.write);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  return code;
}

}  // namespace polar::launch
