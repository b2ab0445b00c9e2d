// The warp's matrix instructions: ldmatrix and mma.sync. Layouts as in ptx.cuh.
#pragma once

#include <cstdint>
#include <source_location>

namespace polar::emulator {

// `count` matrices (2 or 4) of 8x8 16-bit elements into out[count] of every lane.
void load_matrices(uint32_t* out, const void* row, int count, bool transposed, std::source_location where);
void multiply_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, const float* c,
                       std::source_location where);

// The two bf16 of a word.
float low_bf16(uint32_t pair);
float high_bf16(uint32_t pair);

}  // namespace polar::emulator
