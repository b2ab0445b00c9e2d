#include "worker.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <utility>

#include "options.h"
#include "report.h"
#include "sanitizers.h"
#include "shared_memory.h"
#include "wgmma.h"

#ifdef EMULATOR_TSAN
// The first race ends the program: a test fails, or a test of a planted race succeeds.
// What orders OpenMP's threads, which the CPU backend and OpenBLAS use, the sanitizer does not see.
extern "C" const char* __tsan_default_suppressions() {
  return "race:polar::cpu::\nrace:N5polar3cpu\ncalled_from_lib:libgomp\ncalled_from_lib:libopenblas\n";
}
extern "C" const char* __tsan_default_options() {
  return "halt_on_error=1:die_after_fork=0";
}
#endif

namespace polar::emulator {

constinit thread_local Thread* current_thread = nullptr;

namespace {

#ifdef EMULATOR_TSAN
// Two sets of fibers take turns, so that a thread of one block and the same thread of the next are two.
constexpr uint32_t kThreadSets = 2;
#else
constexpr uint32_t kThreadSets = 1;
#endif

// Not inlined: an address of thread-local storage must not be kept across a switch, since a worker's fibers
// may be resumed by another operating-system thread in the next launch.
[[gnu::noinline]] void set_current(Thread* thread) {
  current_thread = thread;
}
[[gnu::noinline]] Thread* get_current() {
  return current_thread;
}

void go_to(Worker& worker, Thread* from, Thread* to) {
  if (from == to) return;
  set_current(to);
  switch_fiber(from == nullptr ? worker.host : from->fiber, to == nullptr ? worker.host : to->fiber);
}

// The engine does one of its copies, any.
void advance_engine(Worker& worker) {
  std::vector<TensorCopy>& copies = worker.tensor_copies;
  TensorCopy next;
  {
    const EngineIdentity identity(worker, Identity::internal);
    std::swap(copies[worker.random() % copies.size()], copies.back());
    next = copies.back();
    copies.pop_back();
  }
  const EngineIdentity identity(worker, Identity::tensor_engine);
  do_tensor_copy(next);
}

Thread* take_runnable(Worker& worker) {
  std::vector<Thread*>& list = worker.runnable;
  constexpr uint32_t kPreemption = 16;  // every so often any thread, instead of the one on top
  if (options().order == Order::random && worker.random() % kPreemption == 0)
    std::swap(list[worker.random() % list.size()], list.back());
  Thread* taken = list.back();
  list.pop_back();
  return taken;
}

// Leaves `self` (null: the host) and runs the next thread; returns when `self` is run again.
void run_others(Worker& worker, Thread* self) {
  constexpr uint32_t kEarlyEngine = 8, kPatience = 100000;
  const bool random = options().order == Order::random;
  if (!worker.tensor_copies.empty() &&
      (worker.runnable.empty() || (random && worker.random() % kEarlyEngine == 0))) {
    advance_engine(worker);
    worker.fruitless_rounds = 0;
  }
  if (worker.runnable.empty() && !worker.spinning.empty()) {
    if (worker.tensor_copies.empty() && ++worker.fruitless_rounds > kPatience) report_deadlock(worker);
    worker.runnable.swap(worker.spinning);
  }
  if (worker.runnable.empty()) {
    if (worker.alive > 0) report_deadlock(worker);
    go_to(worker, self, nullptr);
    return;
  }
  go_to(worker, self, take_runnable(worker));
}

void check_barriers_after_exit(const Worker& worker) {
  for (const NamedBarrier& barrier : worker.barriers)
    if (barrier.arrived > 0 && barrier.expected < 0 && options().strict_barriers)
      fail("thread exited while others wait at {}, {}", barrier.name, place(barrier.where));
}

// What every fiber does for ever: run the kernel for its thread of the current block.
void thread_main() {
  Thread& self = *get_current();
  fiber_entered(self.fiber);
  for (;;) {
    Worker& worker = *self.worker;
    acquire(&worker.ordered_by.kernel_start);
    acquire(&worker.ordered_by.block_start);
    self.block->grid->run(self.block->grid->arguments);
    if (self.copy_count > 0)
      fail("thread exited with {} cp.async that it has not waited for", self.copy_count);
    release(&worker.ordered_by.kernel_end);
    release(&worker.ordered_by.shared_freed);
    self.exited = true;
    --worker.alive;
    check_barriers_after_exit(worker);
    run_others(worker, &self);
  }
}

void name_identities([[maybe_unused]] Worker& worker) {
#ifdef EMULATOR_TSAN
  const auto create = [](const char* name) {
    void* fiber = __tsan_create_fiber(0);
    __tsan_set_fiber_name(fiber, name);
    return fiber;
  };
  for (Thread& thread : worker.all_threads)
    thread.fiber.race_detector = create(("cuda thread " + std::to_string(thread.linear)).c_str());
  if (worker.identities[0] == nullptr)
    worker.identities = {create("emulator"), create("end of block"), create("TMA engine")};
#endif
}

void make_threads(Worker& worker, uint32_t count) {
  const size_t all = size_t{count} * kThreadSets;
  worker.capacity = count;
  worker.stacks.allocate(all);
  worker.all_threads = std::vector<Thread>(all);
  worker.async_copies = std::vector<AsyncCopy>(all * kMaximumAsyncCopies);
  for (size_t i = 0; i < all; ++i) {
    Thread& thread = worker.all_threads[i];
    thread.worker = &worker;
    thread.linear = static_cast<uint32_t>(i % count);
    thread.lane = thread.linear % 32;
    thread.warp = thread.linear / 32;
    thread.copies = &worker.async_copies[i * kMaximumAsyncCopies];
    worker.stacks.prepare(thread.fiber, i, &thread_main);
  }
  name_identities(worker);
}

// Everything that grows is sized here, so that the engine allocates nothing while threads run.
void prepare_worker(Worker& worker, uint32_t threads) {
  adopt_thread(worker.host);
  if (worker.capacity < threads) make_threads(worker, threads);
  worker.thread_count = threads;
  worker.runnable.reserve(2 * size_t{threads} + 8);
  worker.spinning.reserve(size_t{threads} + 8);
  worker.starting.reserve(threads);
  worker.static_shared.reserve(64);
  worker.tensor_copies.reserve(256);
  worker.products.resize((threads + 31) / 32);
  for (NamedBarrier& barrier : worker.barriers) barrier.waiting.reserve(threads);
  worker.meetings.resize((threads + 31) / 32);
  worker.warp_ordered_by.resize((threads + 31) / 32);
}

void start_threads(Worker& worker) {
  const dim3& shape = worker.block.grid->block;
  for (uint32_t i = 0; i < worker.thread_count; ++i) {
    Thread& thread = worker.threads[i];
    thread.index = {i % shape.x, i / shape.x % shape.y, i / shape.x / shape.y};
    thread.block = &worker.block;
    thread.exited = false;
    thread.waits_for = nullptr;
    thread.copy_count = thread.copy_group = 0;
  }
  worker.starting.clear();
  for (uint32_t i = 0; i < worker.thread_count; ++i) worker.starting.push_back(worker.threads + i);
  wake(worker, worker.starting.data(), worker.starting.size());
}

void run_block(Worker& worker, const Grid& grid, uint64_t index) {
  worker.block.grid = &grid;
  worker.block.index = {static_cast<unsigned>(index % grid.grid.x),
                        static_cast<unsigned>(index / grid.grid.x % grid.grid.y),
                        static_cast<unsigned>(index / grid.grid.x / grid.grid.y)};
  ++worker.block_serial;
  worker.threads = worker.all_threads.data() + (worker.block_serial % kThreadSets) * worker.capacity;
  worker.random.seed(options().seed * 1000003u + static_cast<uint32_t>(index));
  allocate_dynamic_shared(worker);
  release(&worker.ordered_by.block_start);
  worker.alive = worker.thread_count;
  worker.fruitless_rounds = 0;
  for (auto& warp : worker.meetings)
    for (Meeting& meeting : warp) meeting.arrived = 0;
  for (NamedBarrier& barrier : worker.barriers) {
    barrier.arrived = 0;
    barrier.waiting.clear();
  }
  start_threads(worker);
  run_others(worker, nullptr);
  if (!worker.tensor_copies.empty())
    fail("{} TMA copies at the end of a block that nobody has waited for", worker.tensor_copies.size());
  reset_wgmma(worker);
  free_shared(worker);
}

std::vector<uint64_t> block_order(uint64_t count) {
  std::vector<uint64_t> order(count);
  for (uint64_t i = 0; i < count; ++i) order[i] = options().order == Order::reverse ? count - 1 - i : i;
  if (options().order == Order::random) {
    std::mt19937 random(options().seed);
    std::shuffle(order.begin(), order.end(), random);
  }
  return order;
}

// A worker's threads stay with it from launch to launch: making them is what costs.
std::vector<std::unique_ptr<Worker>>& all_workers() {
  static auto& workers =
      *new std::vector<std::unique_ptr<Worker>>;  // never destroyed: kernels may outlive main
  return workers;
}

}  // namespace

EngineIdentity::EngineIdentity([[maybe_unused]] Worker& worker, [[maybe_unused]] Identity identity) {
#ifdef EMULATOR_TSAN
  previous_ = __tsan_get_current_fiber();
  const bool is_internal = identity == Identity::internal;
  if (is_internal) {
    release(&worker.ordered_by.internal);
    done_ = &worker.ordered_by.internal_end;
  }
  __tsan_switch_to_fiber(worker.identities[static_cast<size_t>(identity)], 1);
  if (is_internal) acquire(&worker.ordered_by.internal);
#endif
}
EngineIdentity::~EngineIdentity() {
#ifdef EMULATOR_TSAN
  if (done_ != nullptr) release(done_);
  __tsan_switch_to_fiber(previous_, 1);
#endif
}

void wait_for_others(Thread& self, const char* what, std::source_location where, uint32_t mask) {
  self.waits_for = what;
  self.where = where;
  self.wait_mask = mask;
  run_others(*self.worker, &self);
  self.waits_for = nullptr;
}

void poll(const char* what, std::source_location where) {
  Thread& self = *current_thread;
  self.worker->spinning.push_back(&self);
  wait_for_others(self, what, where);
}

bool may_be_overtaken() {
  return options().order == Order::random;
}

// Under random order the warps come in a random order, and the lanes of each; warps stay together, because a
// uniformly random choice among threads would keep all warps in step and hide what running ahead reveals.
static void sort_at_random(uint32_t salt, Thread** threads, size_t count) {
  const auto scramble = [salt](uint32_t x) {
    x = (x ^ salt) * 2654435761u;
    return x ^ x >> 15;
  };
  const auto key = [&](const Thread* t) {
    return std::array<uint32_t, 4>{scramble(t->warp), t->warp, scramble(t->linear + 7777), t->linear};
  };
  // A heap sort moves one by one: the memmove of others would be seen by the thread sanitizer.
  const auto before = [&](const Thread* a, const Thread* b) { return key(a) < key(b); };
  std::make_heap(threads, threads + count, before);
  std::sort_heap(threads, threads + count, before);
}

void wake(Worker& worker, Thread** threads, size_t count) {
  const Order order = options().order;
  if (order == Order::random) sort_at_random(static_cast<uint32_t>(worker.random()), threads, count);
  if (order == Order::forward)
    for (size_t i = count; i-- > 0;) worker.runnable.push_back(threads[i]);
  else
    for (size_t i = 0; i < count; ++i) worker.runnable.push_back(threads[i]);
}

void run_grid(const Grid& grid) {
  const uint32_t threads = grid.block.x * grid.block.y * grid.block.z;
  const std::vector<uint64_t> order = block_order(uint64_t{grid.grid.x} * grid.grid.y * grid.grid.z);
  const size_t count = std::clamp<size_t>(static_cast<size_t>(options().workers), 1, order.size());
  auto& workers = all_workers();
  while (workers.size() < count) workers.push_back(std::make_unique<Worker>());
  std::atomic<size_t> next{0};
  const auto work = [&](Worker& worker) {
    prepare_worker(worker, threads);
    release(&worker.ordered_by.kernel_start);
    for (size_t i; (i = next.fetch_add(1)) < order.size();) run_block(worker, grid, order[i]);
    acquire(&worker.ordered_by.kernel_end);
    acquire(&worker.ordered_by.internal_end);
  };
  if (count == 1) {
    work(*workers[0]);
    return;
  }
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < count; ++i)
    helpers.emplace_back([&, i] {
      workers[i]->host.stack = nullptr;  // another operating-system thread each time
      work(*workers[i]);
    });
  work(*workers[0]);
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace polar::emulator
