// Other processes: a program and what it printed; a part of the test itself, apart from it.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "temporary.h"

namespace polar::test {

// The command: this build's, or the one that the environment names.
inline std::string command_under_test(const char* of_build) {
  const char* other = getenv("POLAR_TEST_BINARY");
  return other == nullptr ? of_build : other;
}

class Process {
 public:
  // Starts the program with one thread; standard output and standard error go to one file.
  explicit Process(std::vector<std::string> command, const std::string& input = "") {
    const std::filesystem::path in = directory_.path() / "input";
    write_file_atomically(in, input);
    pid_ = fork();
    if (pid_ < 0) fail("cannot fork");
    if (pid_ > 0) return;
    const int out = open(output_file().c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    dup2(open(in.c_str(), O_RDONLY), STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    // Tests and their processes share few cores, and with more threads than cores every barrier waits for the
    // scheduler: a training step takes a hundred times as long.
    setenv("OMP_NUM_THREADS", "1", 1);
    std::vector<char*> arguments;
    for (std::string& word : command) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    execv(arguments[0], arguments.data());
    _exit(127);
  }
  ~Process() {
    if (running()) {
      kill(pid_, SIGKILL);
      wait();
    }
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal) const { kill(pid_, signal); }
  bool running() {
    if (status_ >= 0) return false;
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
    return status_ < 0;
  }
  // The exit code, or 128 + the signal that ended it.
  int wait() {
    if (status_ < 0) waitpid(pid_, &status_, 0);
    return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
  }
  std::string output() const {
    return std::filesystem::exists(output_file()) ? read_file(output_file()) : "";
  }

  // Waits until the condition holds; false if the process ended before.
  template <class Condition>
  bool wait_for(const Condition& condition) {
    while (!condition()) {
      if (!running()) return condition();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }

 private:
  std::filesystem::path output_file() const { return directory_.path() / "output"; }

  TemporaryDirectory directory_;
  pid_t pid_ = -1;
  int status_ = -1;
};

struct Finished {
  int code;
  std::string output;
};

inline Finished run_process(std::vector<std::string> command, const std::string& input = "") {
  Process process(std::move(command), input);
  const int code = process.wait();
  return {code, process.output()};
}

// Runs a check that must not touch this process (limits, mounts, its own death) in a child. Returns the
// check's answer, the child's exit status: 0 is good; 100 if it threw; minus the signal that ended it.
inline int in_child(const std::function<int()>& check) {
  const pid_t child = fork();
  if (child < 0) fail("cannot fork");
  if (child == 0) {
    int status = 100;
    try {
      status = check();
    } catch (const std::exception& e) {
      std::fprintf(stderr, "child: %s\n", e.what());
    }
    _exit(status);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace polar::test
