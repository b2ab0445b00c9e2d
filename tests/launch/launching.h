// A launcher under test: started with a mark in the environment, by which every process below it is found.
#pragma once

#include <dirent.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "process.h"

namespace polar::launch {

// The environment of a process; "" if it is gone or a zombie.
inline std::string environment_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/environ", std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Waits until the condition holds; false after `seconds`.
template <class Condition>
bool eventually(const Condition& condition, double seconds = 10) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return true;
}

class Launcher {
 public:
  // `arguments` of `polartrain launch`; `variables` are set or, without "=", unset before;
  // `output`: a file for standard output; `runner`: a program that starts the launcher in its own place;
  // `launcher`: another than `polartrain launch`.
  explicit Launcher(const std::vector<std::string>& arguments, const std::vector<std::string>& variables = {},
                    const std::string& output = "", const std::vector<std::string>& runner = {},
                    const std::vector<std::string>& launcher = {POLAR_BINARY, "launch"})
      : mark_(next_mark()), process_(command(arguments, variables, output, runner, launcher)) {}

  static std::string next_mark() {
    static std::atomic<int> count = 0;
    return "POLAR_TEST_MARK=" + std::to_string(getpid()) + "-" + std::to_string(++count);
  }

  int wait() { return process_.wait(); }
  std::string output() const { return process_.output(); }
  bool says(const std::string& text, double seconds = 20) const {
    return eventually([&] { return output().find(text) != std::string::npos; }, seconds);
  }
  void send(int signal) const { process_.send(signal); }
  bool running() { return process_.running(); }

  // The processes with the mark, those of one rank only if one is given: the launcher's own have none.
  std::vector<pid_t> processes(const std::string& variable = "") const {
    std::vector<pid_t> found;
    DIR* directory = opendir("/proc");
    while (const dirent* entry = readdir(directory)) {
      const pid_t pid = std::atoi(entry->d_name);
      if (pid <= 0 || pid == getpid()) continue;
      const std::string environment = '\0' + environment_of(pid);
      const auto has = [&](const std::string& text) {
        return environment.find('\0' + text + '\0') != std::string::npos;
      };
      if (has(mark_) && (variable.empty() || has(variable))) found.push_back(pid);
    }
    closedir(directory);
    return found;
  }
  // None is left, not even the launcher.
  bool all_gone(double seconds = 10) const {
    return eventually([&] { return processes().empty(); }, seconds);
  }
  // The inner of the launcher's two processes: the parent of the workers.
  pid_t inner() const {
    for (const pid_t worker : processes("LOCAL_RANK=0")) {
      std::ifstream file("/proc/" + std::to_string(worker) + "/stat");
      std::string pid, name, state;
      pid_t parent = 0;
      file >> pid >> name >> state >> parent;
      return parent;
    }
    return -1;
  }

 private:
  std::vector<std::string> command(const std::vector<std::string>& arguments,
                                   const std::vector<std::string>& variables, const std::string& output,
                                   const std::vector<std::string>& runner,
                                   const std::vector<std::string>& launcher) {
    std::vector<std::string> words{"/usr/bin/env"};
    for (const std::string& variable : variables)
      if (variable.find('=') == std::string::npos) words.insert(words.end(), {"-u", variable});
    words.push_back(mark_);
    for (const std::string& variable : variables)
      if (variable.find('=') != std::string::npos) words.push_back(variable);
    if (!output.empty()) words.insert(words.end(), {"/bin/sh", "-c", "exec \"$@\" > " + output, "sh"});
    words.insert(words.end(), runner.begin(), runner.end());
    words.insert(words.end(), launcher.begin(), launcher.end());
    words.insert(words.end(), arguments.begin(), arguments.end());
    return words;
  }

  std::string mark_;
  test::Process process_;
};

// Flags, and a shell script as the worker.
inline std::vector<std::string> with_script(std::vector<std::string> flags, const std::string& script) {
  flags.insert(flags.end(), {"--", "/bin/sh", "-c", script});
  return flags;
}

struct Launched {
  int code;
  std::string output;
};

// Runs to the end; whatever happens, no process may be left.
inline Launched launch(const std::vector<std::string>& arguments,
                       const std::vector<std::string>& variables = {}) {
  Launcher launcher(arguments, variables);
  const int code = launcher.wait();
  EXPECT_TRUE(launcher.all_gone(0)) << launcher.output();
  return {code, launcher.output()};
}

}  // namespace polar::launch
