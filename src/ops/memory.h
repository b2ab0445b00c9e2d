// The memory of a whole plan, from a backend; given back when its owner goes.
#pragma once

#include "base/error.h"
#include "ops/ops.h"
#include "tensor/memory_plan.h"

namespace polar {

enum class MemoryKind { device, host };

// `plan` and `ops` must outlive it.
class PlannedMemory {
 public:
  PlannedMemory(const MemoryPlan& plan, Ops& ops, MemoryKind kind)
      : ops_(ops), kind_(kind), memory_(allocate(plan)), arena_(plan, memory_) {}
  PlannedMemory(const PlannedMemory&) = delete;
  PlannedMemory& operator=(const PlannedMemory&) = delete;
  ~PlannedMemory() { kind_ == MemoryKind::device ? ops_.release(memory_) : ops_.release_host(memory_); }

  const Arena& arena() const { return arena_; }
  Tensor operator[](BufferId id) const { return arena_[id]; }

 private:
  // Says, besides that there is too little, what the memory was wanted for.
  void* allocate(const MemoryPlan& plan) {
    try {
      return kind_ == MemoryKind::device ? ops_.allocate(plan.total_bytes())
                                         : ops_.allocate_host(plan.total_bytes());
    } catch (const Error& error) {
      throw Error(fmt::format("{}\n{}", error.what(), plan.table(false)), error.code());
    }
  }

  Ops& ops_;
  MemoryKind kind_;
  void* memory_;
  Arena arena_;
};

}  // namespace polar
