// Errors that reach the user: what was found, what was expected, where, what to do; with an exit code.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace polar {

// Exit codes of the command, documented in the README and in `polartrain --help`.
enum class ExitCode : int {
  done = 0,
  failed = 1,
  bad_usage = 2,  // command line, configuration or input that the user has to mend
  stopped_by_signal = 3,
  stopped_by_guard = 4,
  hung = 5,  // several ranks: one of them, or an operation between them, did not go on within the timeout
};

// The one exception type of the project. `code()` is what the process exits with if nobody handles it.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, ExitCode code = ExitCode::failed)
      : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// Throws an Error (exit code 1): something failed while running: a damaged file, a full disk.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// Throws an Error with exit code 2: the command line or the configuration is wrong.
template <class... Args>
[[noreturn]] void fail_usage(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...), ExitCode::bad_usage);
}

}  // namespace polar
