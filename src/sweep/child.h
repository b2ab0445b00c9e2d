// One training run as a process.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace polar::sweep {

// Starts the command (a path and its arguments) in a process group of its own, with an empty standard input;
// what it writes is appended to `output`. If this process dies, it gets SIGTERM. Throws Error.
pid_t start_process(const std::vector<std::string>& command, const std::filesystem::path& output);

// The last line of a text that says what went wrong: of those that begin with "error: ", else the last one at
// all.
std::string last_words(const std::string& text);

}  // namespace polar::sweep
