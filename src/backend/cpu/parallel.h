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

}  // namespace polar::cpu
