#include "train/peak.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "ops/memory.h"

namespace polar {

PeakRate training_peak(Ops& ops, DType compute) {
  constexpr int64_t kEdge = 4096;
  const PeakRate known = ops.peak_rate(compute);
  return known.flops > 0.0 || ops.host_memory() ? known : measured_peak(ops, compute, kEdge);
}

PeakRate measured_peak(Ops& ops, DType compute, int64_t edge) {
  using Clock = std::chrono::steady_clock;
  constexpr int kTimes = 5;
  MemoryPlan plan;
  const auto square = [&](const char* name) { return plan.add("peak", name, compute, {edge, edge}); };
  const BufferId a = square("a"), b = square("b"), c = square("c");
  const PlannedMemory memory(plan, ops, MemoryKind::device);
  for (const BufferId id : {a, b, c}) ops.fill(memory[id], 0.5);
  double least = 0.0;
  for (int i = 0; i <= kTimes; ++i) {
    ops.synchronize();
    const auto begin = Clock::now();
    ops.gemm(Transpose::no, Transpose::yes, 1.0, memory[a], memory[b], 0.0, memory[c]);
    ops.synchronize();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (i > 0) least = i == 1 ? seconds : std::min(least, seconds);  // the first one warms up
  }
  const auto n = static_cast<double>(edge);
  return {2.0 * n * n * n / least, fmt::format("measured: a product of {} x {}", edge, edge)};
}

}  // namespace polar
