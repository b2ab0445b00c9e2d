#include "launch/output.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace polar::launch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kLongestLine = 64 * 1024;  // what has no line end for so long is cut
constexpr auto kProgressInterval = std::chrono::seconds(1);

}  // namespace

void LineSplitter::add(std::string_view bytes, const Emit& emit) {
  while (!bytes.empty()) {
    const size_t end = bytes.find_first_of("\r\n");
    append(bytes.substr(0, end), emit);
    if (end == std::string_view::npos) return;
    if (bytes[end] == '\n')
      end_of_line(emit);
    else
      return_to_start(emit);
    bytes.remove_prefix(end + 1);
  }
}

void LineSplitter::append(std::string_view text, const Emit& emit) {
  if (text.empty()) return;
  progress_.clear();  // overwritten
  just_shown_ = false;
  line_ += text;
  for (; line_.size() > kLongestLine; line_.erase(0, kLongestLine))
    emit(std::string_view(line_).substr(0, kLongestLine));
}

void LineSplitter::end_of_line(const Emit& emit) {
  if (line_.empty() && just_shown_) {
    just_shown_ = false;  // "text\r\n", and the text has been shown
    return;
  }
  emit(line_.empty() ? progress_ : line_);
  line_.clear();
  progress_.clear();
}

void LineSplitter::return_to_start(const Emit& emit) {
  if (line_.empty()) return;
  just_shown_ = Clock::now() - last_progress_ >= kProgressInterval;
  if (just_shown_) {
    emit(line_);
    last_progress_ = Clock::now();
  } else {
    progress_ = line_;
  }
  line_.clear();
}

void LineSplitter::finish(const Emit& emit) {
  if (!line_.empty() || !progress_.empty()) end_of_line(emit);
}

void Console::line(int descriptor, std::string_view prefix, std::string_view text) {
  if (queue_.empty() || queue_.back().first != descriptor) queue_.emplace_back(descriptor, "");
  std::string& end = queue_.back().second;
  end += prefix;
  end += text;
  end += '\n';
  bytes_ += prefix.size() + text.size() + 1;
}

bool Console::ready() const {
  pollfd entry{waiting_for(), POLLOUT, 0};
  return poll(&entry, 1, 0) > 0;
}

void Console::drop_front(size_t bytes) {
  std::string& front = queue_.front().second;
  bytes_ -= bytes;
  front.erase(0, bytes);
  if (front.empty()) queue_.pop_front();
}

void Console::write() {
  while (!queue_.empty() && ready()) {
    const auto& [descriptor, text] = queue_.front();
    // A pipe that is ready takes PIPE_BUF bytes without blocking.
    const ssize_t written = ::write(descriptor, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (written < 0 && (errno == EINTR || errno == EAGAIN)) return;
    drop_front(written < 0 ? text.size() : static_cast<size_t>(written));
  }
}

void Console::finish(double seconds) {
  const Clock::time_point end =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  for (write(); !queue_.empty(); write()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) return;
    pollfd entry{waiting_for(), POLLOUT, 0};
    poll(&entry, 1, static_cast<int>(left));
  }
}

}  // namespace polar::launch
