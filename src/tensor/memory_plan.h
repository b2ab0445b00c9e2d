// The memory plan: every buffer of a run is listed before anything is allocated, so that the need can be
// printed without a device (`polartrain plan`) and the training loop allocates nothing.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace polar {

// A planned buffer: a ticket to exchange for memory once the plan has been allocated.
struct BufferId {
  int index = -1;
  explicit operator bool() const { return index >= 0; }
};

class MemoryPlan {
 public:
  static constexpr size_t kAlignment = 256;  // bytes; covers cache lines, 16-byte GPU accesses and TMA

  struct Entry {
    std::string category;  // "parameters", "gradients", "optimizer", "activations", "workspace", "input", ...
    std::string name;
    DType dtype;
    Shape shape;
    size_t offset;  // bytes from the start of the arena
    size_t bytes;   // without padding
  };

  // Adds a buffer. A shape with no elements gets a place of zero bytes.
  BufferId add(std::string category, std::string name, DType dtype, Shape shape);
  const std::vector<Entry>& entries() const { return entries_; }
  const Entry& entry(BufferId id) const { return entries_.at(static_cast<size_t>(id.index)); }
  // Bytes of the arena: the sum of all buffers, each rounded up to kAlignment.
  size_t total_bytes() const { return total_; }
  // Bytes of one category, padding included: the categories add up to total_bytes().
  size_t category_bytes(const std::string& category) const;
  // A table: category, bytes, share; with `every_buffer` also each buffer.
  std::string table(bool every_buffer) const;

 private:
  std::vector<Entry> entries_;
  size_t total_ = 0;
};

// One allocation that holds a whole plan. The memory comes from the backend (Ops::allocate).
class Arena {
 public:
  Arena(const MemoryPlan& plan, void* base) : plan_(&plan), base_(static_cast<std::byte*>(base)) {}
  Tensor operator[](BufferId id) const;  // an id that is not set gives an empty tensor

 private:
  const MemoryPlan* plan_;
  std::byte* base_;
};

// "1.5 GiB", "12.0 MiB", "640 B".
std::string format_bytes(size_t bytes);

}  // namespace polar
