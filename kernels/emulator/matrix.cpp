#include "matrix.h"

#include <bit>

#include "collectives.h"
#include "report.h"
#include "sanitizers.h"
#include "shared_memory.h"

namespace polar::emulator {
namespace {

constexpr uint32_t kFullWarp = 0xffffffffu;

struct LoadMatrices {
  uint32_t* out;
  const uint16_t* row;
};

// Lane l gets the elements 2 * (l % 4) and the next of row l / 4; of the transposed matrix with `transposed`.
template <int count, bool transposed>
void do_load(uint32_t mask, void** arguments) {
  if (mask != kFullWarp) fail("ldmatrix needs all 32 lanes");
  const auto row = [&](int matrix, uint32_t index) {
    return static_cast<LoadMatrices*>(arguments[static_cast<uint32_t>(matrix) * 8 + index])->row;
  };
  for (uint32_t lane = 0; lane < 8 * count; ++lane)
    if (reinterpret_cast<uintptr_t>(row(0, lane)) % 16 != 0)
      fail("ldmatrix: the row address of lane {} is not 16-byte aligned", lane);
  uint32_t results[32][count];
  for (int matrix = 0; matrix < count; ++matrix)
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const uint32_t g = lane / 4, t = lane % 4 * 2;
      const uint32_t first = transposed ? row(matrix, t)[g] : row(matrix, g)[t];
      const uint32_t second = transposed ? row(matrix, t + 1)[g] : row(matrix, g)[t + 1];
      results[lane][matrix] = first | second << 16;
    }
  for (uint32_t lane = 0; lane < 32; ++lane)
    for (int matrix = 0; matrix < count; ++matrix)
      static_cast<LoadMatrices*>(arguments[lane])->out[matrix] = results[lane][matrix];
}

struct Multiply {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
  const float* c;
};

void do_multiply(uint32_t mask, void** arguments) {
  if (mask != kFullWarp) fail("mma.sync needs all 32 lanes");
  float a[16][16], b[16][8], c[16][8];
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const auto& in = *static_cast<const Multiply*>(arguments[lane]);
    const uint32_t g = lane / 4, t = lane % 4 * 2;
    for (uint32_t i = 0; i < 4; ++i) {  // a[i]: rows 8.. for odd i, columns 8.. for the upper two
      a[g + i % 2 * 8][t + i / 2 * 8] = low_bf16(in.a[i]);
      a[g + i % 2 * 8][t + i / 2 * 8 + 1] = high_bf16(in.a[i]);
      c[g + i / 2 * 8][t + i % 2] = in.c[i];
    }
    for (uint32_t i = 0; i < 2; ++i) {
      b[t + i * 8][g] = low_bf16(in.b[i]);
      b[t + i * 8 + 1][g] = high_bf16(in.b[i]);
    }
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < 16; ++k)
      for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
  for (uint32_t lane = 0; lane < 32; ++lane) {
    auto& out = *static_cast<Multiply*>(arguments[lane]);
    const uint32_t g = lane / 4, t = lane % 4 * 2;
    for (uint32_t i = 0; i < 4; ++i) out.d[i] = c[g + i / 2 * 8][t + i % 2];
  }
}

}  // namespace

float low_bf16(uint32_t pair) {
  return std::bit_cast<float>(pair << 16);
}
float high_bf16(uint32_t pair) {
  return std::bit_cast<float>(pair & 0xffff0000u);
}

void load_matrices(uint32_t* out, const void* row, int count, bool transposed, std::source_location where) {
  shared_address(row, where);  // it has to be shared memory
  constexpr uint32_t kRowBytes = 16;
  if (static_cast<int>(current_thread->lane) < 8 * count) note_read(row, kRowBytes);
  LoadMatrices argument{out, static_cast<const uint16_t*>(row)};
  const Collective work = count == 4 ? (transposed ? &do_load<4, true> : &do_load<4, false>)
                                     : (transposed ? &do_load<2, true> : &do_load<2, false>);
  warp_collective(kFullWarp, work, &argument, "ldmatrix", where);
}

void multiply_m16n8k16(float* d, const uint32_t* a, const uint32_t* b, const float* c,
                       std::source_location where) {
  Multiply argument{d, a, b, c};
  warp_collective(kFullWarp, &do_multiply, &argument, "mma.m16n8k16", where);
}

}  // namespace polar::emulator
