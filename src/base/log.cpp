#include "base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

#include "base/error.h"

namespace polar::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::debug:
      return spdlog::level::debug;
    case Level::info:
      return spdlog::level::info;
    case Level::warning:
      return spdlog::level::warn;
    case Level::error:
      break;
  }
  return spdlog::level::err;
}

// All the state of the log; one mutex, because the progress line and the log lines share the terminal.
struct State {
  std::mutex mutex;
  std::string progress_line;
  bool terminal = isatty(STDERR_FILENO) != 0;
  std::shared_ptr<spdlog::logger> console;
  std::shared_ptr<spdlog::logger> file;

  State() {
    console = std::make_shared<spdlog::logger>("console", std::make_shared<spdlog::sinks::stderr_sink_st>());
    console->set_pattern("%v");
  }
  void clear_progress() const {
    if (terminal && !progress_line.empty()) std::fputs("\r\033[K", stderr);
  }
  void draw_progress() const {
    if (terminal && !progress_line.empty()) {
      std::fputs(progress_line.c_str(), stderr);
      std::fflush(stderr);
    }
  }
};

State& state() {
  static State instance;
  return instance;
}

}  // namespace

void write(Level level, std::string_view message) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (s.file) {
    s.file->log(to_spdlog(level), "{}", message);
    s.file->flush();
  }
  if (!s.console->should_log(to_spdlog(level))) return;
  s.clear_progress();
  const char* prefix = level == Level::warning ? "warning: " : level == Level::error ? "error: " : "";
  s.console->log(to_spdlog(level), "{}{}", prefix, message);
  s.console->flush();
  s.draw_progress();
}

void set_level(Level level) {
  std::lock_guard lock(state().mutex);
  state().console->set_level(to_spdlog(level));
}

void open_file(const std::filesystem::path& path) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  try {
    s.file = std::make_shared<spdlog::logger>(
        "file", std::make_shared<spdlog::sinks::basic_file_sink_st>(path.string(), false));
  } catch (const spdlog::spdlog_ex& e) {
    fail("cannot open the log file {}: {}", path.string(), e.what());
  }
  s.file->set_pattern("%Y-%m-%d %H:%M:%S.%e %l %v");
}

void close_file() {
  std::lock_guard lock(state().mutex);
  state().file.reset();
}

void progress(std::string_view line) {
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (s.file) s.file->info("{}", line);
  if (!s.terminal) {
    s.console->info("{}", line);
    s.console->flush();
    return;
  }
  s.clear_progress();
  s.progress_line = line;
  s.draw_progress();
}

void finish_progress() {
  State& s = state();
  std::lock_guard lock(s.mutex);
  if (s.terminal && !s.progress_line.empty()) std::fputc('\n', stderr);
  s.progress_line.clear();
}

bool is_terminal() {
  return state().terminal;
}

}  // namespace polar::log
