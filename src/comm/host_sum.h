// Sums over the ranks on the host: in the order of the ranks, whatever the timing and the number of threads.
#pragma once

#include <cstdint>
#include <span>

#include "tensor/tensor.h"

namespace polar {

// to[i] = ((parts[0][i] + parts[1][i]) + parts[2][i]) + ... for i < count. f32 and f64 in their own type,
// bf16 in f32, rounded to nearest even once at the end. `to` may be one of the parts, or overlap none.
void sum_in_order(std::span<const void* const> parts, void* to, int64_t count, DType dtype);

}  // namespace polar
