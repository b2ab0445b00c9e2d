#include "launch/descendants.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>

#include "base/error.h"
#include "launch/worker.h"

namespace polar::launch {
namespace {

// The parent of a process, 0 if there is no such process any more.
pid_t parent_of(pid_t pid) {
  const Descriptor file(open(fmt::format("/proc/{}/stat", pid).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return 0;
  std::array<char, 512> text{};
  if (read(file.number(), text.data(), text.size() - 1) <= 0) return 0;
  const char* name_end = std::strrchr(text.data(), ')');  // the name itself may hold anything
  // ") S 4711 ..."
  return name_end == nullptr || std::strlen(name_end) < 5 ? 0 : static_cast<pid_t>(std::atol(name_end + 4));
}

std::multimap<pid_t, pid_t> children_by_parent() {
  std::multimap<pid_t, pid_t> result;
  DIR* directory = opendir("/proc");
  if (directory == nullptr) return result;
  while (const dirent* entry = readdir(directory)) {
    const pid_t pid = static_cast<pid_t>(std::atol(entry->d_name));
    if (pid <= 0) continue;
    if (const pid_t parent = parent_of(pid); parent > 0) result.emplace(parent, pid);
  }
  closedir(directory);
  return result;
}

}  // namespace

std::vector<pid_t> descendants() {
  const std::multimap<pid_t, pid_t> children = children_by_parent();
  std::vector<pid_t> found{getpid()};
  for (size_t i = 0; i < found.size(); ++i) {
    const auto [begin, end] = children.equal_range(found[i]);
    for (auto child = begin; child != end; ++child) found.push_back(child->second);
  }
  found.erase(found.begin());
  return found;
}

void signal_descendants(int signal) {
  for (const pid_t pid : descendants()) kill(pid, signal);
}

std::vector<pid_t> kill_descendants(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);  // for sigtimedwait
  while (true) {
    // Again after every death: what was started meanwhile is among the children now.
    signal_descendants(SIGKILL);
    pid_t ended = 0;
    do ended = waitpid(-1, nullptr, WNOHANG);
    while (ended > 0);
    if (ended < 0 && errno == ECHILD) return {};
    if (std::chrono::steady_clock::now() >= end) return descendants();
    const timespec wait{0, 50'000'000};
    sigtimedwait(&child, nullptr, &wait);
  }
}

void become_subreaper() {
  if (prctl(PR_SET_CHILD_SUBREAPER, 1) != 0)
    fail("cannot become the reaper of the workers' children: prctl: {}", std::strerror(errno));
}

}  // namespace polar::launch
