// One worker process: how it is started, where its output goes, what it was last heard to say.
#pragma once

#include <sys/types.h>

#include <array>
#include <deque>
#include <filesystem>
#include <string>
#include <vector>

#include "launch/options.h"
#include "launch/output.h"
#include "launch/process.h"

namespace polar::launch {

// Where a worker stands among all: the same on every node but for the first two.
struct Assignment {
  int node = 0;        // this node's rank among the nodes (GROUP_RANK)
  int first_rank = 0;  // of this node's workers
  int nodes = 1;
  int world_size = 1;
  std::string master_addr;
  int master_port = 0;
  std::string run_id;
  int attempt = 0;  // TORCHELASTIC_RESTART_COUNT
};

// The whole environment ("NAME=value") of a worker: the launcher's own and torchrun's variables.
std::vector<std::string> worker_environment(const Options& options, const Assignment& assignment,
                                            int local_rank);

// OMP_NUM_THREADS of each of so many workers on this node: the cores divided among them, at least 1.
int default_threads(int processes);

// The program as execve wants it: with a "/", or found in PATH. Throws Error (exit code 2) if there is none.
std::string find_program(const std::string& name);

// This binary, for its own subcommands; by its path, under which `ps` shows it.
std::string own_program();

class Worker {
 public:
  // Starts the program in a process group of its own; it gets SIGKILL if the calling process dies. Its
  // standard input is empty. Errors: exit code 2 if the program cannot be executed, 1 for anything else.
  Worker(const Options& options, const Assignment& assignment, const std::string& program, int local_rank,
         Console& console);

  pid_t pid() const { return pid_; }
  int rank() const { return rank_; }
  int local_rank() const { return local_rank_; }
  bool running() const { return running_; }
  int status() const { return status_; }  // of waitpid
  bool succeeded() const { return !running_ && status_ == 0; }
  void ended(int status);

  // The pipes of its output that are still open, for poll; and reads what one of them holds.
  std::vector<int> open_pipes() const;
  void read_pipe(int descriptor);
  // Reads what is left without waiting, and closes.
  void close_pipes();
  // The last lines of its output, of both streams.
  std::vector<std::string> tail() const;
  // "rank 1 (local rank 1, pid 4711)"
  std::string name() const;

 private:
  struct Output {
    Descriptor pipe;  // none: straight into the file
    Descriptor file;
    std::filesystem::path path;  // of the file
    bool shown = true;
    int console = 1;
    LineSplitter splitter;
  };

  Descriptor prepare_output(const Options& options, const Assignment& assignment, int stream);
  void line(const Output& output, std::string_view text);
  void write_to_file(Output& output, std::string_view bytes);

  Console& console_;
  std::string prefix_;
  int rank_, local_rank_;
  pid_t pid_ = -1;
  bool running_ = true;
  int status_ = 0;
  std::array<Output, 2> outputs_;
  std::deque<std::string> last_lines_;
};

// "exit code 1", "signal SIGSEGV"
std::string describe_status(int status);
// 0 to 255: the exit code, or 128 + the signal.
int exit_code_of(int status);

}  // namespace polar::launch
