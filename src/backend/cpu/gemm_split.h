// fp32 products on the matrix units of a CPU (Intel AMX), which multiply bf16 only.
//
// A float is the exact sum of three bf16 numbers, x = x1 + x2 + x3, each with the next 8 bits of the
// significand. Of the nine products of two such sums six count; the other three are below 2^-24 of the whole:
//   a b = a1 b1 + a1 b2 + a2 b1 + a2 b2 + a1 b3 + a3 b1.
// They are exact and summed in fp32, so the result is as good as one of fp32 multiply-adds, and six bf16
// products still take half the time of one fp32 product there. (Henry, Tang, Heinecke: "Leveraging the
// bfloat16 artificial intelligence datatype for higher-precision computations", 2019.)
//
// With two parts and three products, a1 b1 + a1 b2 + a2 b1, an operand keeps 16 bits: each term is within
// 2^-16 of its value. The polar iterations take that: they pull every singular value back towards 1 in each
// step, so that errors of a step do not add up, and published Muon runs them in plain bf16, 2^-8.
//
// The bits of an element depend on its row of a, its column of b and k alone, as in gemm_kernel.h. An
// infinite operand gives NaN where the multiply-adds may give an infinity: inf - inf stands among its parts.
#pragma once

#include "backend/cpu/gemm_product.h"

namespace polar::cpu {

// This CPU has the units, the system lets this process use them, and the compiler knows them.
bool has_matrix_units();

// The product is large enough to gain from them, zeros included that fill up the tiles. `rows`, `cols` and
// `depth` are those of the whole product, so that the choice does not depend on how it is cut.
bool gains_from_matrix_units(int64_t rows, int64_t cols, int64_t depth);

// The whole product in the calling thread, by its kernel: three_parts or two_parts. Only where
// has_matrix_units().
void multiply_split(const MatrixProduct<float>& product);

// Makes the calling thread's packing buffers, which otherwise its first product makes.
void reserve_split_buffers();

}  // namespace polar::cpu
