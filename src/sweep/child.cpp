#include "sweep/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <sstream>

#include "base/error.h"
#include "launch/worker.h"

namespace polar::sweep {
namespace {

constexpr size_t kLongestMessage = 400;

// What the new process does: only calls that are safe after a fork. Returns if something failed.
void become(pid_t parent, int input, int output, const char* program, char* const* arguments) {
  if (setpgid(0, 0) != 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) return;
  if (getppid() != parent) _exit(1);  // died before the line above
  if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 || dup2(output, STDERR_FILENO) < 0)
    return;
  for (const int number : {SIGPIPE, SIGTERM, SIGINT, SIGQUIT})
    signal(number, SIG_DFL);  // what nohup ignores stays
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv(program, arguments);
}

launch::Descriptor open_or_fail(const std::filesystem::path& path, int flags) {
  launch::Descriptor file(open(path.c_str(), flags | O_CLOEXEC, 0644));
  if (!file) fail("cannot open {}: {}", path.string(), std::strerror(errno));
  return file;
}

}  // namespace

pid_t start_process(const std::vector<std::string>& command, const std::filesystem::path& output) {
  const launch::Descriptor input = open_or_fail("/dev/null", O_RDONLY);
  const launch::Descriptor out = open_or_fail(output, O_WRONLY | O_CREAT | O_APPEND);
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  launch::Pipe problem = launch::make_pipe();  // closes when the program has started
  const pid_t parent = getpid(), pid = fork();
  if (pid < 0) fail("cannot start a run: fork: {}", std::strerror(errno));
  if (pid == 0) {
    become(parent, input.number(), out.number(), command[0].c_str(), arguments.data());
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
  fail("cannot start {}: {}", command[0], std::strerror(error));
}

std::string last_words(const std::string& text) {
  std::istringstream lines(text);
  std::string last, last_error;
  for (std::string line; std::getline(lines, line);) {
    if (line.find_first_not_of(" \r") == std::string::npos) continue;
    last = line;
    if (line.starts_with("error: ")) last_error = line.substr(7);
  }
  const std::string& words = last_error.empty() ? last : last_error;
  return words.size() <= kLongestMessage ? words : words.substr(0, kLongestMessage) + "...";
}

}  // namespace polar::sweep
