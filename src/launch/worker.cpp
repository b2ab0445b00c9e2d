#include "launch/worker.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"

namespace polar::launch {
namespace {

namespace fs = std::filesystem;

constexpr size_t kTailLines = 20;
constexpr int kRounds = 16;  // how often a pipe is read at a stretch: the others get their turn

Descriptor open_file(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644));
  if (!file)
    fail("cannot open the log file {}: {}", path.string(), error ? error.message() : std::strerror(errno));
  return file;
}

std::string last_bytes(const fs::path& path) {
  constexpr off_t kMost = 8192;
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return "";
  const off_t size = lseek(file.number(), 0, SEEK_END);
  std::string text(static_cast<size_t>(std::clamp<off_t>(size, 0, kMost)), '\0');
  const ssize_t got = pread(file.number(), text.data(), text.size(), std::max<off_t>(0, size - kMost));
  text.resize(static_cast<size_t>(std::max<ssize_t>(0, got)));
  return text;
}

}  // namespace

std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* variable = std::getenv("PATH");
  const std::string path = variable == nullptr ? "/usr/local/bin:/usr/bin:/bin" : variable;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find(':', begin), path.size());
    const fs::path candidate = fs::path(path.substr(begin, end - begin)) / name;
    std::error_code ignored;
    if (fs::is_regular_file(candidate, ignored) && access(candidate.c_str(), X_OK) == 0)
      return candidate.has_parent_path() ? candidate.string() : "./" + name;
    begin = end + 1;
  }
  fail_usage("cannot start '{}': no such program in PATH (a file of this folder is ./{})", name, name);
}

std::string own_program() {
  const std::string path = fs::read_symlink("/proc/self/exe").string();
  return path.ends_with(" (deleted)") ? "/proc/self/exe" : path;
}

Worker::Worker(const Options& options, const Assignment& assignment, const std::string& program,
               int local_rank, Console& console)
    : console_(console), rank_(assignment.first_rank + local_rank), local_rank_(local_rank) {
  prefix_ = fmt::format("[{}] ", rank_);
  std::array<Descriptor, 2> ends;
  for (int stream = 0; stream < 2; ++stream) ends[stream] = prepare_output(options, assignment, stream);
  pid_ = start({.path = program,
                .command = options.command,
                .environment = worker_environment(options, assignment, local_rank),
                .output = ends[0].number(),
                .error = ends[1].number(),
                .last_signal = SIGKILL});
}

// Returns the end that the worker writes to.
Descriptor Worker::prepare_output(const Options& options, const Assignment& assignment, int stream) {
  Output& output = outputs_[stream];
  const unsigned bit = stream == 0 ? kStdout : kStderr;
  const bool tee = (options.tee.of(local_rank_) & bit) != 0;
  const bool redirect = (options.redirects.of(local_rank_) & bit) != 0;
  output.console = stream + 1;
  output.shown = options.shown_ranks.empty() || options.shown_ranks.count(local_rank_) > 0;
  if (tee || redirect) {
    output.path = options.log_dir / fmt::format("attempt_{}", assignment.attempt) / std::to_string(rank_) /
                  (stream == 0 ? "stdout.log" : "stderr.log");
    output.file = open_file(output.path);
    if (!tee) return std::move(output.file);
  }
  Pipe pipe = make_pipe();
  fcntl(pipe.read.number(), F_SETFL, O_NONBLOCK);
  output.pipe = std::move(pipe.read);
  return std::move(pipe.write);
}

void Worker::ended(int status) {
  running_ = false;
  status_ = status;
}

std::vector<int> Worker::open_pipes() const {
  std::vector<int> pipes;
  for (const Output& output : outputs_)
    if (output.pipe) pipes.push_back(output.pipe.number());
  return pipes;
}

void Worker::line(const Output& output, std::string_view text) {
  last_lines_.emplace_back(text);
  if (last_lines_.size() > kTailLines) last_lines_.pop_front();
  if (output.shown) console_.line(output.console, prefix_, text);
}

void Worker::write_to_file(Output& output, std::string_view bytes) {
  while (output.file && !bytes.empty()) {
    const ssize_t written = write(output.file.number(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      // The run is worth more than its log.
      console_.say(fmt::format("warning: {}: {}: the rest is not written", output.path.string(),
                               std::strerror(errno)));
      output.file.reset();
      return;
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

void Worker::read_pipe(int descriptor) {
  const auto found = std::find_if(outputs_.begin(), outputs_.end(),
                                  [&](const Output& o) { return o.pipe.number() == descriptor; });
  if (descriptor < 0 || found == outputs_.end()) return;
  Output& output = *found;
  const LineSplitter::Emit emit = [&](std::string_view text) { line(output, text); };
  std::array<char, 16384> bytes;
  for (int round = 0; round < kRounds; ++round) {
    const ssize_t got = read(descriptor, bytes.data(), bytes.size());
    if (got < 0) {
      if (errno == EINTR) continue;
      return;  // nothing there now
    }
    if (got == 0) {
      output.splitter.finish(emit);
      output.pipe.reset();
      return;
    }
    const std::string_view text(bytes.data(), static_cast<size_t>(got));
    write_to_file(output, text);
    output.splitter.add(text, emit);
  }
}

void Worker::close_pipes() {
  for (Output& output : outputs_) {
    if (!output.pipe) continue;
    read_pipe(output.pipe.number());
    output.splitter.finish([&](std::string_view text) { line(output, text); });
    output.pipe.reset();
    output.file.reset();
  }
}

std::vector<std::string> Worker::tail() const {
  std::deque<std::string> lines = last_lines_;
  for (const Output& output : outputs_) {
    if (output.pipe || output.path.empty() || !last_lines_.empty()) continue;
    LineSplitter splitter;
    const auto add = [&](std::string_view text) { lines.emplace_back(text); };
    splitter.add(last_bytes(output.path), add);
    splitter.finish(add);
  }
  while (lines.size() > kTailLines) lines.pop_front();
  return {lines.begin(), lines.end()};
}

std::string Worker::name() const {
  return fmt::format("rank {} (local rank {}, pid {})", rank_, local_rank_, pid_);
}

std::string describe_status(int status) {
  if (WIFEXITED(status)) return fmt::format("exit code {}", WEXITSTATUS(status));
  return fmt::format("signal {} ({})", WTERMSIG(status), signal_name(WTERMSIG(status)));
}

int exit_code_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace polar::launch
