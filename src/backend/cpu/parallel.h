// Threads of the CPU backend: a loop over tasks whose number and borders never depend on the number of
// threads, which is what makes results the same bits for any number of them.
#pragma once

#include <omp.h>

#include <cstdint>

namespace polar::cpu {

// Runs task(i) for i in [0, count). Tasks must be independent of each other: their order is not defined.
template <class Task>
void parallel_for(int64_t count, const Task& task) {
  if (count == 1) {
    task(int64_t{0});
    return;
  }
#pragma omp parallel for schedule(dynamic, 1)
  for (int64_t i = 0; i < count; ++i) task(i);
}

constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Elements of an element-wise task: enough to hide the start of a task, few enough to stay in the L2 cache.
// What is not larger runs in the calling thread alone.
constexpr int64_t kTaskElements = 16384;

// Runs body(begin, end) over [0, count) cut into ranges of `size`.
template <class Body>
void parallel_ranges(int64_t count, int64_t size, const Body& body) {
  parallel_for(divide_up(count, size), [&](int64_t i) {
    const int64_t begin = i * size;
    body(begin, begin + size < count ? begin + size : count);
  });
}

}  // namespace polar::cpu
