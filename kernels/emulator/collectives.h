// What threads do together: collectives of a warp and barriers of a block. The last thread to arrive does the
// work of all and wakes the others.
#pragma once

#include <cstdint>
#include <source_location>

namespace polar::emulator {

// work(mask, arguments) gets the arguments of every lane of the mask, by lane; null: only meet.
using Collective = void (*)(uint32_t mask, void** arguments);
void warp_collective(uint32_t mask, Collective work, void* argument, const char* name,
                     std::source_location where);

// Counts `vote` over the threads that take part: all of the block (threads < 0) or the first `threads` to
// come.
int block_barrier(int id, int threads, int vote, const char* name, std::source_location where);
// Counts in without waiting.
void block_barrier_arrive(int id, int threads, const char* name, std::source_location where);

// --- work of the warp collectives ---
[[noreturn]] void fail_shuffle_source(int source, uint32_t mask);

template <class T>
struct Shuffle {
  T value{}, result{};
  int source = 0;
};
template <class T>
void do_shuffle(uint32_t mask, void** arguments) {
  for (uint32_t lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    auto& own = *static_cast<Shuffle<T>*>(arguments[lane]);
    if ((mask >> own.source & 1) == 0) fail_shuffle_source(own.source, mask);
    own.result = static_cast<Shuffle<T>*>(arguments[own.source])->value;
  }
}
template <class T>
T shuffle(uint32_t mask, const T& value, int source, const char* name, std::source_location where) {
  static_assert(sizeof(T) <= 8, "CUDA shuffles at most 8 bytes");
  Shuffle<T> argument{value, value, source};
  warp_collective(mask, &do_shuffle<T>, &argument, name, where);
  return argument.result;
}

uint32_t ballot(uint32_t mask, bool predicate, const char* name, std::source_location where);
// The lanes of the mask whose value equals this lane's.
uint32_t match_any(uint32_t mask, uint64_t value, std::source_location where);
enum class Reduction : uint8_t { add, minimum, maximum, bit_and, bit_or, bit_xor };
uint32_t reduce(uint32_t mask, uint32_t value, Reduction operation, bool is_signed,
                std::source_location where);

}  // namespace polar::emulator
