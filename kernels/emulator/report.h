// What the emulator says when a kernel or a call breaks the rules of CUDA: one report on stderr, then it
// aborts the process, so that a test cannot miss it.
#pragma once

#include <fmt/format.h>

#include <source_location>
#include <string>
#include <utility>

namespace polar::emulator {

// "norm.cu:17"
std::string place(const std::source_location& where);

// Prints "emulator: ERROR: message", the CUDA thread and the launch it happened in, and aborts.
[[noreturn]] void fail_with(const std::string& message);
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  fail_with(fmt::format(format, std::forward<Args>(args)...));
}
// Prints a line and goes on: what a status code alone would not explain.
void note(const std::string& message);

struct Worker;
// No thread of the block can go on: says where each waits, and aborts.
[[noreturn]] void report_deadlock(const Worker& worker);

}  // namespace polar::emulator
