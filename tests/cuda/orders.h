// The same bits in every order of threads: what the CUDA backend promises of all its operations.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "cuda/both.h"
#ifdef POLAR_EMULATED
#include "kernels/emulator/options.h"
#endif

namespace polar::cuda::test {

// Whether the thread sanitizer looks at every access of the kernels, which takes its time.
inline bool every_access_is_watched() {
#ifdef POLAR_EMULATED
  return emulator::watches_for_races();
#else
  return false;
#endif
}

// Calls run() with the emulator's threads in several orders; on a GPU, whose order nobody chooses, as often.
inline void in_every_order(const std::function<void()>& run) {
#ifdef POLAR_EMULATED
  struct Restore {
    emulator::Options before = emulator::options();
    ~Restore() { emulator::options() = before; }
  } restore;
  const auto with = [&](emulator::Order order, uint32_t seed) {
    emulator::options().order = order;
    emulator::options().seed = seed;
    run();
  };
  with(emulator::Order::forward, 0);
  if (every_access_is_watched()) return;  // races are found in any order
  with(emulator::Order::reverse, 0);
  with(emulator::Order::random, 1);
  with(emulator::Order::random, 2);
#else
  for (int i = 0; i < 4; ++i) run();
#endif
}

// run() sets its arrays up, computes, and returns what was computed, which has to be the same every time.
inline void expect_same_bits_in_every_order(const std::string& what, const std::function<Values()>& run) {
  Values want;
  int number = 0;
  in_every_order([&] {
    const Values got = run();
    if (number++ == 0) want = got;
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i)
      ASSERT_EQ(std::bit_cast<uint64_t>(got[i]), std::bit_cast<uint64_t>(want[i]))
          << what << "[" << i << "] in order " << number;
  });
}

// Calls run() on every kind of device for which this program has kernels: with compute capability 8.0, where
// the portable ones run, and 9.0, where Hopper's do.
inline void on_every_kind_of_device(const std::function<void()>& run) {
#ifdef POLAR_EMULATED
  struct Restore {
    int before = emulator::options().capability;
    ~Restore() { emulator::options().capability = before; }
  } restore;
  for (const int capability : {80, 90}) {
    if (capability > restore.before) break;
    SCOPED_TRACE("compute capability " + std::to_string(capability));
    emulator::options().capability = capability;
    run();
  }
#else
  run();
#endif
}

// What a bf16 result may differ by that was computed in float and rounded once, element by element: the
// rounding, and the fp32 tolerance of 1e-5 of the largest element.
inline void expect_rounded_once(const Values& got, const Values& want, const std::string& what,
                                double roundings = 1.0) {
  ASSERT_EQ(got.size(), want.size()) << what;
  const double rest = 1e-5 * largest(want);
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_LE(std::abs(got[i] - want[i]), roundings * kBf16Unit * std::abs(want[i]) + rest)
        << what << "[" << i << "]: " << got[i] << " for " << want[i];
}
// The check of a result of this dtype: 1e-5 of the largest in F32, rounded once in BF16.
inline void expect_result(DType dtype, const Values& got, const Values& want, const std::string& what,
                          double roundings = 1.0) {
  if (dtype == DType::bf16)
    expect_rounded_once(got, want, what, roundings);
  else
    expect_close(got, want, 1e-5, what);
}

}  // namespace polar::cuda::test
