// Ranks as processes of their own, forked from the test.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "comm/communicator.h"
#include "comm/store.h"
#include "temporary.h"

namespace polar::test {

// Rank `rank` of `world_size` on this machine, as a launcher's environment would say.
inline ProcessGroup local_group(int rank, int world_size, uint16_t port) {
  ProcessGroup group;
  group.rank = group.local_rank = rank;
  group.world_size = group.local_world_size = world_size;
  group.master_addr = "127.0.0.1";
  group.master_port = port;
  group.run_id = "test";
  return group;
}

class Ranks {
 public:
  using Body = std::function<void(int rank)>;
  // Starts them. A rank ends with 0, or 1 and the message of what its body threw, or 2 if an expectation
  // failed; 142 after 50 s.
  Ranks(int count, const Body& body) {
    for (int rank = 0; rank < count; ++rank) {
      const pid_t child = fork();
      if (child < 0) fail("cannot fork");
      if (child == 0) run(rank, body);
      children_.push_back(child);
      codes_.push_back(-1);
    }
  }
  ~Ranks() {
    for (size_t rank = 0; rank < children_.size(); ++rank) {
      if (codes_[rank] >= 0) continue;
      kill(children_[rank], SIGKILL);
      wait(static_cast<int>(rank));
    }
  }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  // The exit code, or 128 + the signal that ended it.
  int wait(int rank) {
    int& code = codes_[static_cast<size_t>(rank)];
    if (code >= 0) return code;
    int status = 0;
    waitpid(children_[static_cast<size_t>(rank)], &status, 0);
    return code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void send(int rank, int signal) const { kill(children_[static_cast<size_t>(rank)], signal); }
  std::string output(int rank) const { return read_file(output_file(rank)); }
  // Waits until the rank has written the text.
  bool wait_for(int rank, const std::string& text) const {
    for (int i = 0; i < 30000; ++i) {
      if (std::filesystem::exists(output_file(rank)) && output(rank).find(text) != std::string::npos)
        return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return false;
  }
  void expect_all_good() {
    for (int rank = 0; rank < static_cast<int>(children_.size()); ++rank)
      EXPECT_EQ(wait(rank), 0) << "rank " << rank << ": " << output(rank);
  }

 private:
  std::filesystem::path output_file(int rank) const { return directory_ / ("rank" + std::to_string(rank)); }
  [[noreturn]] void run(int rank, const Body& body) {
    if (freopen(output_file(rank).c_str(), "w", stdout) == nullptr) _exit(127);
    dup2(fileno(stdout), STDERR_FILENO);
    setvbuf(stdout, nullptr, _IONBF, 0);
    alarm(50);
    int code = 0;
    try {
      body(rank);
      if (testing::Test::HasFailure()) code = 2;
    } catch (const std::exception& error) {
      std::printf("error: %s\n", error.what());
      code = 1;
    }
    _exit(code);
  }

  TemporaryDirectory directory_;
  std::vector<pid_t> children_;
  std::vector<int> codes_;
};

}  // namespace polar::test
