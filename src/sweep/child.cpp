#include "sweep/child.h"

#include <fcntl.h>
#include <signal.h>

#include <cerrno>
#include <cstring>
#include <sstream>

#include "base/error.h"
#include "launch/process.h"

namespace polar::sweep {
namespace {

constexpr size_t kLongestMessage = 400;

}  // namespace

pid_t start_process(const std::vector<std::string>& command, const std::filesystem::path& output) {
  const launch::Descriptor file(open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!file) fail("cannot open {}: {}", output.string(), std::strerror(errno));
  return launch::start({.path = command[0],
                        .command = command,
                        .environment = launch::current_environment(),
                        .output = file.number(),
                        .error = file.number(),
                        .last_signal = SIGTERM});
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
