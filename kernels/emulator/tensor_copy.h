// The TMA engine: tensor maps, and copies of their boxes, or of plain bytes, into shared memory. A copy is
// done at some later moment, at the latest when no thread can go on without it.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>
#include <source_location>

#include "thread.h"

namespace polar::emulator {

constexpr int kMaximumRank = 5;

// What a CUtensorMap holds here. Sizes and strides from the contiguous dimension outwards; strides in bytes.
struct TensorMap {
  uint64_t magic = 0;
  const char* data = nullptr;
  std::array<uint32_t, kMaximumRank> sizes{};
  std::array<uint64_t, kMaximumRank> strides{};
  std::array<uint16_t, kMaximumRank> box{};
  uint8_t rank = 0, element_bytes = 0, swizzle_bytes = 0;
};
static_assert(sizeof(TensorMap) <= sizeof(CUtensorMap));

struct TensorCopy {
  TensorMap map;
  unsigned char* to = nullptr;
  uint32_t to_address = 0;  // shared: what the swizzle goes by
  uint64_t* barrier = nullptr;
  std::array<int, kMaximumRank> origin{};
};

void start_tensor_copy(void* to_shared, const CUtensorMap* map, uint64_t* barrier, int rank,
                       std::array<int, kMaximumRank> origin, std::source_location where);
// Contiguous bytes instead of a box of a tensor.
void start_bulk_copy(void* to_shared, const void* from, uint32_t bytes, uint64_t* barrier,
                     std::source_location where);
// For the scheduler, under the engine's identity.
void do_tensor_copy(const TensorCopy& copy);

CUresult encode_tensor_map(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data,
                           const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                           const cuuint32_t* steps, CUtensorMapInterleave interleave,
                           CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                           CUtensorMapFloatOOBfill fill);

}  // namespace polar::emulator
