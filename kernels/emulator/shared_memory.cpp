#include "shared_memory.h"

#include <cstdlib>
#include <cstring>

#include "report.h"
#include "sanitizers.h"
#include "worker.h"

namespace polar::emulator {
namespace {

constexpr uint32_t kStaticWindows = 0x80000;  // above all dynamic memory
constexpr uint32_t kWindowBits = 16;          // 64 KB: more than a static array can have

unsigned char* allocate(size_t bytes, size_t alignment) {
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes) != 0) fail("no memory for {} bytes of shared memory", bytes);
  std::memset(memory, 0xff, bytes);
  return static_cast<unsigned char*>(memory);
}

// Whether `pointer` lies in the memory or just behind it; by how much.
bool inside(const void* pointer, const unsigned char* memory, size_t bytes, uint32_t* offset) {
  const auto distance = reinterpret_cast<uintptr_t>(pointer) - reinterpret_cast<uintptr_t>(memory);
  *offset = static_cast<uint32_t>(distance);
  return memory != nullptr && distance <= bytes;
}

void check_total(const Worker& worker, size_t more) {
  size_t statics = more;
  for (const StaticShared& array : worker.static_shared) statics += array.bytes;
  const Grid& grid = *worker.block.grid;
  if (statics > kDefaultSharedBytes)
    fail("{} bytes of static shared memory, at most {}", statics, kDefaultSharedBytes);
  const size_t limit = grid.shared_limit_raised ? kMaximumSharedBytes : kDefaultSharedBytes;
  if (statics + grid.shared_bytes > limit)
    fail("{} bytes of static and {} of dynamic shared memory, at most {}", statics, grid.shared_bytes, limit);
}

}  // namespace

void allocate_dynamic_shared(Worker& worker) {
  const size_t bytes = worker.block.grid->shared_bytes;
  worker.block.dynamic_shared = bytes == 0 ? nullptr : allocate(bytes, 1024);
}

void free_shared(Worker& worker) {
  // Ordered after everything that the block did, and before nothing.
  const EngineIdentity identity(worker, Identity::janitor);
  acquire(&worker.ordered_by.shared_freed);
  std::free(worker.block.dynamic_shared);
  worker.block.dynamic_shared = nullptr;
  for (const StaticShared& array : worker.static_shared) std::free(array.memory);
  worker.static_shared.clear();
}

void* static_shared(const void* key, size_t bytes, size_t alignment) {
  if (current_thread == nullptr) fail("shared memory outside of a kernel");
  Worker& worker = *current_thread->worker;
  for (StaticShared& array : worker.static_shared)
    if (array.key == key) {
      acquire(&array);
      return array.memory;
    }
  check_total(worker, bytes);
  if (worker.static_shared.size() == worker.static_shared.capacity()) fail("too many static shared arrays");
  worker.static_shared.push_back({key, allocate(bytes, alignment), bytes});
  release(&worker.static_shared.back());  // that one thread allocates it is no race with the others
  return worker.static_shared.back().memory;
}

unsigned char* dynamic_shared(std::source_location where) {
  unsigned char* memory = current_thread->block->dynamic_shared;
  if (memory == nullptr) fail("{}: dynamic shared memory, but the launch asked for none", place(where));
  return memory;
}

uint32_t shared_address(const void* pointer, std::source_location where) {
  const Worker& worker = *current_thread->worker;
  uint32_t offset = 0;
  if (inside(pointer, worker.block.dynamic_shared, worker.block.grid->shared_bytes, &offset))
    return kDynamicWindow + offset;
  for (size_t i = 0; i < worker.static_shared.size(); ++i)
    if (inside(pointer, worker.static_shared[i].memory, worker.static_shared[i].bytes, &offset))
      return kStaticWindows + static_cast<uint32_t>(i << kWindowBits) + offset;
  fail("{}: the pointer is not into this block's shared memory", place(where));
}

unsigned char* shared_pointer(uint32_t address) {
  const Worker& worker = *current_thread->worker;
  if (address >= kStaticWindows) {
    const size_t index = (address - kStaticWindows) >> kWindowBits;
    if (index < worker.static_shared.size())
      return worker.static_shared[index].memory + (address & ((1u << kWindowBits) - 1));
  } else if (address >= kDynamicWindow && address - kDynamicWindow <= worker.block.grid->shared_bytes) {
    return worker.block.dynamic_shared + (address - kDynamicWindow);
  }
  fail("{:#x} is no address of this block's shared memory", address);
}

}  // namespace polar::emulator
