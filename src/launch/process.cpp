#include "launch/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace polar::launch {
namespace {

[[noreturn]] void fail_with_errno(const char* what) {
  fail("cannot start a process: {}: {}", what, std::strerror(errno));
}

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> result;
  for (const std::string& word : words) result.push_back(const_cast<char*>(word.c_str()));
  result.push_back(nullptr);
  return result;
}

// What the new process does: only calls that are safe after a fork. Returns if something failed.
void become(const Program& program, char* const* arguments, char* const* environment, pid_t parent,
            int input) {
  if (setpgid(0, 0) != 0 || prctl(PR_SET_PDEATHSIG, program.last_signal) != 0) return;
  if (getppid() != parent) _exit(1);  // died before the line above
  if (dup2(input, STDIN_FILENO) < 0 || dup2(program.output, STDOUT_FILENO) < 0 ||
      dup2(program.error, STDERR_FILENO) < 0)
    return;
  // What nohup or a shell's background ignores (SIGHUP, SIGINT, SIGQUIT) stays ignored.
  for (const int ignored : {SIGPIPE, SIGTTOU, SIGTTIN, SIGTERM}) signal(ignored, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(program.path.c_str(), arguments, environment);
}

}  // namespace

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    reset();
    number_ = other.number_;
    other.number_ = -1;
  }
  return *this;
}

void Descriptor::reset() {
  if (number_ >= 0) close(number_);
  number_ = -1;
}

Pipe make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) fail_with_errno("pipe2");
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

pid_t start(const Program& program) {
  const std::vector<char*> arguments = pointers(program.command), variables = pointers(program.environment);
  const Descriptor input(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!input) fail_with_errno("/dev/null");
  Pipe problem = make_pipe();  // closes when the program has started
  const pid_t parent = getpid(), pid = fork();
  if (pid < 0) fail_with_errno("fork");
  if (pid == 0) {
    become(program, arguments.data(), variables.data(), parent, input.number());
    const int error = errno;
    const ssize_t written = write(problem.write.number(), &error, sizeof error);
    _exit(written == sizeof error ? 127 : 126);
  }
  problem.write.reset();
  int error = 0;
  ssize_t got = 0;
  do got = read(problem.read.number(), &error, sizeof error);
  while (got < 0 && errno == EINTR);
  if (got <= 0) return pid;
  waitpid(pid, nullptr, 0);
  fail_usage("cannot start '{}': {}{}", program.command[0], std::strerror(error),
             error == ENOEXEC ? " (a script needs a first line such as #!/bin/sh)" : "");
}

std::vector<std::string> current_environment() {
  std::vector<std::string> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.emplace_back(*variable);
  return variables;
}

}  // namespace polar::launch
