// How many kernels this process has launched, or recorded into a graph: what tells a chain of small kernels
// from one large one.
#pragma once

#include <atomic>
#include <cstdint>

namespace polar::kernels {

inline std::atomic<int64_t> launch_count{0};

}  // namespace polar::kernels
