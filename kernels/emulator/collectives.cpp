#include "collectives.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "options.h"
#include "report.h"
#include "sanitizers.h"
#include "worker.h"

namespace polar::emulator {
namespace {

Thread& thread_in_kernel(const char* name) {
  if (current_thread == nullptr) fail("{} outside of a kernel", name);
  return *current_thread;
}

// The meeting of this mask that this lane has not come to yet, or a free one.
Meeting& find_meeting(Worker& worker, const Thread& self, uint32_t mask, Collective work) {
  Meeting* unused = nullptr;
  for (Meeting& meeting : worker.meetings[self.warp]) {
    if (meeting.arrived == 0) {
      if (unused == nullptr) unused = &meeting;
    } else if (meeting.mask == mask && (meeting.arrived >> self.lane & 1) == 0) {
      return meeting;
    }
  }
  if (unused == nullptr) fail("more than {} collectives of different masks under way in a warp", kMeetings);
  unused->mask = mask;
  unused->work = work;
  return *unused;
}

void* ordering_of(Worker& worker, const Thread& self, const Meeting& meeting) {
  const auto index = &meeting - worker.meetings[self.warp].data();
  return &worker.warp_ordered_by[self.warp].meeting[index][meeting.generation & 1];
}

void wake_lanes(Worker& worker, const Thread& self, uint32_t mask) {
  std::array<Thread*, 32> woken;
  size_t count = 0;
  for (uint32_t lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0 && (lane != self.lane || may_be_overtaken()))
      woken[count++] = &worker.threads[self.warp * 32 + lane];
  wake(worker, woken.data(), count);
}

}  // namespace

void warp_collective(uint32_t mask, Collective work, void* argument, const char* name,
                     std::source_location where) {
  Thread& self = thread_in_kernel(name);
  Worker& worker = *self.worker;
  if ((mask >> self.lane & 1) == 0)
    fail("{} at {}: the calling lane {} is not in mask {:08x}", name, place(where), self.lane, mask);
  Meeting& meeting = find_meeting(worker, self, mask, work);
  if (meeting.work != work)
    fail("{} at {} meets another collective of the same mask: the warp has diverged", name, place(where));
  meeting.arrived |= 1u << self.lane;
  meeting.arguments[self.lane] = argument;
  void* order = ordering_of(worker, self, meeting);
  // Lanes that do not exist, in a block whose last warp is not full, are not waited for.
  const uint32_t existing = worker.thread_count - self.warp * 32;
  const uint32_t live = existing < 32 ? mask & ((1u << existing) - 1) : mask;
  release(order);
  if ((meeting.arrived & live) != live) {
    wait_for_others(self, name, where, mask);
    acquire(order);
    return;
  }
  acquire(order);
  if (work != nullptr) {
    work(live, meeting.arguments.data());
    release(order);
  }
  meeting.arrived = 0;
  ++meeting.generation;
  wake_lanes(worker, self, live);
  if (may_be_overtaken()) wait_for_others(self, name, where, mask);
}

// The first to arrive says what the barrier is; all others have to agree.
static void join_barrier(NamedBarrier& barrier, int threads, const char* name, std::source_location where) {
  if (barrier.arrived == 0) {
    barrier.where = where;
    barrier.name = name;
    barrier.expected = threads;
    barrier.votes = 0;
    return;
  }
  if (barrier.expected != threads)
    fail("{} at {} with {} threads; others wait for {}", name, place(where), threads, barrier.expected);
  const bool same_file = barrier.where.file_name() == where.file_name() ||
                         std::strcmp(barrier.where.file_name(), where.file_name()) == 0;
  const bool same_place = barrier.where.line() == where.line() && same_file;
  if (threads < 0 && options().strict_barriers && !same_place)
    fail("divergent barrier: {} at {} while other threads wait at {}, {}", name, place(where), barrier.name,
         place(barrier.where));
}

static NamedBarrier& arrive(Thread& self, int id, int threads, int vote, const char* name,
                            std::source_location where) {
  Worker& worker = *self.worker;
  if (id < 0 || id >= kBarriers) fail("{} at {}: there is no barrier {}", name, place(where), id);
  if (threads >= 0 && (threads == 0 || threads % 32 != 0 || threads > static_cast<int>(worker.thread_count)))
    fail("{} at {}: {} threads; expected whole warps of the block", name, place(where), threads);
  if (threads < 0 && options().strict_barriers && worker.alive != worker.thread_count)
    fail("{} at {} after {} threads have exited", name, place(where), worker.thread_count - worker.alive);
  NamedBarrier& barrier = worker.barriers[static_cast<size_t>(id)];
  join_barrier(barrier, threads, name, where);
  barrier.votes += vote;
  ++barrier.arrived;
  release(&worker.ordered_by.barrier[id][barrier.generation & 1]);
  return barrier;
}

static bool complete(const Worker& worker, const NamedBarrier& barrier) {
  return barrier.arrived >= (barrier.expected < 0 ? static_cast<int>(worker.alive) : barrier.expected);
}

static void open(Worker& worker, NamedBarrier& barrier) {
  ++barrier.generation;
  barrier.arrived = 0;
  barrier.result = barrier.votes;
  wake(worker, barrier.waiting.data(), barrier.waiting.size());
  barrier.waiting.clear();
}

int block_barrier(int id, int threads, int vote, const char* name, std::source_location where) {
  Thread& self = thread_in_kernel(name);
  Worker& worker = *self.worker;
  NamedBarrier& barrier = arrive(self, id, threads, vote, name, where);
  void* order = &worker.ordered_by.barrier[id][barrier.generation & 1];
  if (!complete(worker, barrier)) {
    barrier.waiting.push_back(&self);
    wait_for_others(self, name, where);
    acquire(order);
    return barrier.result;
  }
  acquire(order);
  const int result = barrier.votes;
  if (may_be_overtaken()) barrier.waiting.push_back(&self);
  open(worker, barrier);
  if (may_be_overtaken()) wait_for_others(self, name, where);
  return result;
}

void block_barrier_arrive(int id, int threads, const char* name, std::source_location where) {
  Thread& self = thread_in_kernel(name);
  NamedBarrier& barrier = arrive(self, id, threads, 0, name, where);
  if (complete(*self.worker, barrier)) open(*self.worker, barrier);
}

void fail_shuffle_source(int source, uint32_t mask) {
  fail("the shuffle reads lane {}, which is not in mask {:08x}", source, mask);
}

namespace {

struct Vote {
  bool predicate;
  uint32_t result;
};
void do_vote(uint32_t mask, void** arguments) {
  uint32_t result = 0;
  for (uint32_t lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0) result |= uint32_t{static_cast<Vote*>(arguments[lane])->predicate} << lane;
  for (uint32_t lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0) static_cast<Vote*>(arguments[lane])->result = result;
}

struct Match {
  uint64_t value;
  uint32_t result;
};
void do_match(uint32_t mask, void** arguments) {
  for (uint32_t lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    auto& own = *static_cast<Match*>(arguments[lane]);
    own.result = 0;
    for (uint32_t other = 0; other < 32; ++other)
      if ((mask >> other & 1) != 0 && static_cast<Match*>(arguments[other])->value == own.value)
        own.result |= 1u << other;
  }
}

struct Reduce {
  uint32_t value, result;
  Reduction operation;
  bool is_signed;
};
uint32_t combine(const Reduce& how, uint32_t a, uint32_t b) {
  const auto x = static_cast<int32_t>(a), y = static_cast<int32_t>(b);
  switch (how.operation) {
    case Reduction::add:
      return a + b;
    case Reduction::minimum:
      return how.is_signed ? static_cast<uint32_t>(std::min(x, y)) : std::min(a, b);
    case Reduction::maximum:
      return how.is_signed ? static_cast<uint32_t>(std::max(x, y)) : std::max(a, b);
    case Reduction::bit_and:
      return a & b;
    case Reduction::bit_or:
      return a | b;
    case Reduction::bit_xor:
      return a ^ b;
  }
  return 0;
}
void do_reduce(uint32_t mask, void** arguments) {
  const auto& first = *static_cast<Reduce*>(arguments[std::countr_zero(mask)]);
  uint32_t total = first.value;
  for (auto lane = static_cast<uint32_t>(std::countr_zero(mask)) + 1; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0) total = combine(first, total, static_cast<Reduce*>(arguments[lane])->value);
  for (uint32_t lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1) != 0) static_cast<Reduce*>(arguments[lane])->result = total;
}

}  // namespace

uint32_t ballot(uint32_t mask, bool predicate, const char* name, std::source_location where) {
  Vote vote{predicate, 0};
  warp_collective(mask, &do_vote, &vote, name, where);
  return vote.result;
}

uint32_t match_any(uint32_t mask, uint64_t value, std::source_location where) {
  Match match{value, 0};
  warp_collective(mask, &do_match, &match, "__match_any_sync", where);
  return match.result;
}

uint32_t reduce(uint32_t mask, uint32_t value, Reduction operation, bool is_signed,
                std::source_location where) {
  Reduce argument{value, 0, operation, is_signed};
  warp_collective(mask, &do_reduce, &argument, "__reduce_sync", where);
  return argument.result;
}

}  // namespace polar::emulator
