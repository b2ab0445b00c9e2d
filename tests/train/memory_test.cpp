// The memory plan is what is allocated, and the loop allocates nothing. Every allocation of the process is
// counted by taking the place of the C library's allocator (not under the sanitizers, which do the same).
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>

#include "fixture.h"
#include "train/trainer.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)

namespace {
std::atomic<long> g_allocations{0};
std::atomic<size_t> g_aligned_bytes{0};
}  // namespace

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  ++g_allocations;
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  ++g_allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  ++g_allocations;
  return __libc_realloc(memory, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  ++g_allocations;
  g_aligned_bytes += size;
  return __libc_memalign(alignment, size);
}
void* memalign(size_t alignment, size_t size) {
  ++g_allocations;
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** memory, size_t alignment, size_t size) {
  ++g_allocations;
  *memory = __libc_memalign(alignment, size);
  return 0;
}
}

namespace polar::test {
namespace {

class Memory : public TinyRun, public testing::WithParamInterface<std::vector<std::string>> {};

TEST_P(Memory, ThePlanIsWhatIsAllocatedAndTheLoopAllocatesNothing) {
  const Experiment e = experiment("a", GetParam());
  const auto ops = make_ops({"cpu", 2});
  const RunPlan planned(e, *ops);
  const auto comm = make_single_communicator(*ops);
  const size_t before = g_aligned_bytes;
  Trainer trainer(e, *ops, *comm);
  EXPECT_EQ(g_aligned_bytes - before, planned.device.total_bytes() + planned.host.total_bytes());
  EXPECT_EQ(trainer.plan().device.total_bytes(), planned.device.total_bytes());

  trainer.initialize();
  trainer.start();
  const auto never = [] { return false; };
  // The libraries make their thread pools and buffers; of SOAP's steps the first is of its own kind.
  for (int i = 0; i < 2; ++i) trainer.step(never);
  const long allocations = g_allocations;
  for (int i = 0; i < 5; ++i) trainer.step(never);
  EXPECT_EQ(g_allocations - allocations, 0);
  trainer.evaluate();
  EXPECT_EQ(g_allocations - allocations, 0);
  void* volatile kept = std::malloc(1);  // the counter does count
  std::free(kept);
  EXPECT_GT(g_allocations - allocations, 0);
}

// Not here: the svd oracle, because LAPACK's own buffers are made when a thread first works with them, and
// which thread does is not fixed.
INSTANTIATE_TEST_SUITE_P(
    Configurations, Memory,
    testing::Values(std::vector<std::string>{}, std::vector<std::string>{"train.recompute=layer"},
                    std::vector<std::string>{"optimizer.groups.0.type=polargrad", "data.packing=documents"},
                    std::vector<std::string>{"optimizer.groups.0.type=matrix",
                                             "optimizer.groups.0.oracle.kind=newton_schulz",
                                             "optimizer.groups.0.momentum.kind=polar_first"},
                    std::vector<std::string>{"optimizer.groups.0.type=soap",
                                             "optimizer.groups.0.precondition_frequency=1"},
                    std::vector<std::string>{"optimizer.groups.0.type=shampoo",
                                             "optimizer.groups.0.precondition_frequency=1"},
                    std::vector<std::string>{"optimizer.groups.0.type=adamw", "batch.micro_sequences=1"}));

}  // namespace
}  // namespace polar::test

#endif
