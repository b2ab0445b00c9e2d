#include "async_copy.h"

#include <cstring>

#include "options.h"
#include "report.h"
#include "sanitizers.h"
#include "shared_memory.h"
#include "worker.h"

namespace polar::emulator {
namespace {

void land(const AsyncCopy& copy) {
  note_read(copy.from, copy.valid_bytes);
  note_write(copy.to, copy.bytes);
  // Byte by byte: a memcpy would be noted once more.
  const auto* from = static_cast<const volatile unsigned char*>(copy.from);
  auto* to = static_cast<volatile unsigned char*>(copy.to);
  for (uint32_t i = 0; i < copy.bytes; ++i) to[i] = i < copy.valid_bytes ? from[i] : 0;
}

}  // namespace

void start_async_copy(void* to, const void* from, uint32_t bytes, uint32_t valid_bytes,
                      std::source_location where) {
  Thread& self = *current_thread;
  if (reinterpret_cast<uintptr_t>(to) % bytes != 0)
    fail("cp.async at {}: the destination is not {}-byte aligned", place(where), bytes);
  if (reinterpret_cast<uintptr_t>(from) % bytes != 0 && valid_bytes > 0)
    fail("cp.async at {}: the source is not {}-byte aligned", place(where), bytes);
  shared_address(to, where);  // it has to be shared memory
  if (self.copy_count == kMaximumAsyncCopies)
    fail("cp.async at {}: more than {} under way in one thread", place(where), kMaximumAsyncCopies);
  const AsyncCopy copy{to, from, bytes, valid_bytes, self.copy_group};
  constexpr uint32_t kEarly = 4;  // in random order some copies are quick
  if (options().order == Order::random && self.worker->random() % kEarly == 0) {
    land(copy);
    return;
  }
  std::memset(to, 0xff, bytes);
  self.copies[self.copy_count++] = copy;
}

void commit_async_copies() {
  ++current_thread->copy_group;
}

void wait_async_copies(int pending_groups) {
  Thread& self = *current_thread;
  const int landed_below = self.copy_group - pending_groups;
  int kept = 0;
  for (int i = 0; i < self.copy_count; ++i) {
    if (self.copies[i].group < landed_below)
      land(self.copies[i]);
    else
      self.copies[kept++] = self.copies[i];
  }
  self.copy_count = kept;
}

}  // namespace polar::emulator
