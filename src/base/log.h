// Log lines for people: to the terminal, and to a run's log.txt once a run has opened it.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <string_view>
#include <utility>

namespace polar::log {

enum class Level { debug, info, warning, error };

// Writes one line. Thread-safe. If a progress line is shown it is cleared first and drawn again after.
void write(Level level, std::string_view message);

template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}

// Lines below this level are dropped (default: info).
void set_level(Level level);
// From now on every line also goes, with a time stamp, to `path` (appended). Throws Error if it cannot be
// opened.
void open_file(const std::filesystem::path& path);
void close_file();

// The live progress line. On a terminal it stays at the bottom and is overwritten; elsewhere (a pipe, a file)
// it is printed as a plain line of its own. `finish_progress` leaves the last one standing.
void progress(std::string_view line);
void finish_progress();
bool is_terminal();

}  // namespace polar::log
