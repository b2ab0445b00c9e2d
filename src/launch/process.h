// A program as a new process, and descriptors that close themselves.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace polar::launch {

// A descriptor that is closed with its owner, and when another program starts.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(other.number_) { other.number_ = -1; }
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor() { reset(); }
  void reset();
  int number() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_;
};

struct Pipe {
  Descriptor read, write;
};
Pipe make_pipe();  // both ends close on exec

struct Program {
  std::string path;
  std::vector<std::string> command;      // its name and arguments
  std::vector<std::string> environment;  // "NAME=value"
  int output, error;                     // descriptors that become its standard output and error
  int last_signal;                       // what it gets if the calling process dies
};

// Starts it in a process group of its own with an empty standard input and the signals as a shell would leave
// them. Throws Error: exit code 2 if the new process could not become the program, 1 if there was none.
pid_t start(const Program& program);

// This process's own, for Program.
std::vector<std::string> current_environment();

}  // namespace polar::launch
