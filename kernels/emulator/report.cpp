#include "report.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <vector>

#include "worker.h"

namespace polar::emulator {
namespace {

std::string text_of(const uint3& index) {
  return fmt::format("({},{},{})", index.x, index.y, index.z);
}

[[noreturn]] void print_and_abort(const std::string& text) {
  std::fprintf(stderr, "\n%s\n", text.c_str());
  std::fflush(stderr);
  std::abort();
}

std::string state_of(const Thread& thread) {
  if (thread.exited) return "exited";
  if (thread.waits_for == nullptr) return "not waiting";
  if (thread.wait_mask != 0)
    return fmt::format("wait at {} mask {:08x}, {}", thread.waits_for, thread.wait_mask, place(thread.where));
  return fmt::format("wait at {}, {}", thread.waits_for, place(thread.where));
}

// "0-15 17"
std::string ranges(const std::vector<uint32_t>& sorted) {
  std::string text;
  for (size_t first = 0; first < sorted.size();) {
    size_t last = first;
    while (last + 1 < sorted.size() && sorted[last + 1] == sorted[last] + 1) ++last;
    if (!text.empty()) text += ' ';
    text +=
        first == last ? fmt::format("{}", sorted[first]) : fmt::format("{}-{}", sorted[first], sorted[last]);
    first = last + 1;
  }
  return text;
}

}  // namespace

std::string place(const std::source_location& where) {
  const std::string path = where.file_name();
  return fmt::format("{}:{}", path.substr(path.rfind('/') + 1), where.line());
}

void fail_with(const std::string& message) {
  std::string text = "emulator: ERROR: " + message;
  if (const Thread* thread = current_thread) {
    text += fmt::format("\n  in block {} thread {}", text_of(thread->block->index), text_of(thread->index));
    text += "\n  of the kernel launched at " + place(thread->block->grid->where);
  }
  print_and_abort(text);
}

void note(const std::string& message) {
  std::fprintf(stderr, "emulator: %s\n", message.c_str());
}

void report_deadlock(const Worker& worker) {
  std::string text =
      fmt::format("emulator: DEAD-LOCK: no thread of block {} can go on; kernel launched at {}",
                  text_of(worker.block.index), place(worker.block.grid->where));
  std::map<std::string, std::vector<uint32_t>> states;
  for (uint32_t i = 0; i < worker.thread_count; ++i) states[state_of(worker.threads[i])].push_back(i);
  for (const auto& [state, threads] : states)
    text += fmt::format("\n  threads {}: {}", ranges(threads), state);
  print_and_abort(text);
}

}  // namespace polar::emulator
