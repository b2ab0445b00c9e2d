#include "tensor_copy.h"

#include <cstring>

#include "mbarrier.h"
#include "report.h"
#include "runtime.h"
#include "sanitizers.h"
#include "shared_memory.h"
#include "worker.h"

namespace polar::emulator {
namespace {

constexpr uint64_t kMagic = 0x74656e736f726d61;

uint64_t box_elements(const TensorMap& map) {
  uint64_t count = 1;
  for (int i = 0; i < map.rank; ++i) count *= map.box[static_cast<size_t>(i)];
  return count;
}

// Where the 128-byte (64-, 32-byte) swizzle puts a byte: 16-byte pieces of a row change places by the row.
uint32_t swizzled(uint32_t address, uint32_t swizzle_bytes) {
  if (swizzle_bytes == 0) return address;
  return address ^ ((address >> 7) & (swizzle_bytes / 16 - 1)) << 4;
}

uint32_t element_bytes(CUtensorMapDataType type) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
      return 1;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      return 2;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      return 4;
    default:
      return 0;
  }
}

uint32_t span_of(CUtensorMapSwizzle swizzle) {
  switch (swizzle) {
    case CU_TENSOR_MAP_SWIZZLE_32B:
      return 32;
    case CU_TENSOR_MAP_SWIZZLE_64B:
      return 64;
    case CU_TENSOR_MAP_SWIZZLE_128B:
      return 128;
    default:
      return 0;
  }
}

bool refused(bool condition, const char* why) {
  if (condition) note(fmt::format("cuTensorMapEncodeTiled refuses: {}", why));
  return condition;
}

bool describable(const TensorMap& map) {
  const uint32_t row_bytes = uint32_t{map.box[0]} * map.element_bytes;
  if (refused(reinterpret_cast<uintptr_t>(map.data) % 16 != 0, "the data are not 16-byte aligned") ||
      refused(row_bytes % 16 != 0, "a row of the box is no multiple of 16 bytes") ||
      refused(map.swizzle_bytes != 0 && row_bytes > map.swizzle_bytes,
              "a row of the box is longer than the swizzle"))
    return false;
  for (size_t i = 0; i < map.rank; ++i) {
    if (refused(map.sizes[i] == 0, "an empty dimension") ||
        refused(map.box[i] == 0 || map.box[i] > 256, "a side of the box is not between 1 and 256") ||
        refused(i > 0 && (map.strides[i] % 16 != 0 || map.strides[i] >= uint64_t{1} << 40),
                "a stride is no multiple of 16 bytes"))
      return false;
  }
  return true;
}

// Queues a copy whose source is described.
void start(TensorCopy& copy, void* to_shared, uint64_t* barrier, std::source_location where) {
  copy.to = static_cast<unsigned char*>(to_shared);
  copy.to_address = shared_address(to_shared, where);
  copy.barrier = barrier;
  shared_address(copy.to + box_elements(copy.map) * copy.map.element_bytes,
                 where);  // the end has to be there
  shared_address(barrier, where);
  release(barrier);
  Worker& worker = *current_thread->worker;
  if (worker.tensor_copies.size() == worker.tensor_copies.capacity())
    fail("TMA copy at {}: more than {} under way", place(where), worker.tensor_copies.capacity());
  worker.tensor_copies.push_back(copy);
}

}  // namespace

CUresult encode_tensor_map(CUtensorMap* out, CUtensorMapDataType type, cuuint32_t rank, void* data,
                           const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box,
                           const cuuint32_t* steps, CUtensorMapInterleave interleave,
                           CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill fill) {
  TensorMap map;
  map.magic = kMagic;
  map.data = static_cast<const char*>(data);
  map.element_bytes = static_cast<uint8_t>(element_bytes(type));
  map.swizzle_bytes = static_cast<uint8_t>(span_of(swizzle));
  map.rank = static_cast<uint8_t>(rank);
  const bool emulated = rank >= 1 && rank <= kMaximumRank && map.element_bytes != 0 &&
                        interleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
                        fill == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE &&
                        (swizzle == CU_TENSOR_MAP_SWIZZLE_NONE || map.swizzle_bytes != 0);
  if (refused(!emulated, "a rank, type, layout or filling that is not emulated"))
    return CUDA_ERROR_NOT_SUPPORTED;
  size_t extent = map.element_bytes;
  for (size_t i = 0; i < rank; ++i) {
    if (refused(steps[i] != 1, "steps other than 1") ||
        refused(sizes[i] > 0xffffffffu, "a dimension is too long") ||
        refused(box[i] > 256, "a side of the box is longer than 256"))
      return CUDA_ERROR_INVALID_VALUE;
    map.sizes[i] = static_cast<uint32_t>(sizes[i]);
    map.strides[i] = i == 0 ? map.element_bytes : strides[i - 1];
    map.box[i] = static_cast<uint16_t>(box[i]);
    extent += (sizes[i] - 1) * map.strides[i];
  }
  if (!describable(map)) return CUDA_ERROR_INVALID_VALUE;
  check_device_range("cuTensorMapEncodeTiled", "tensor", data, extent);
  std::memset(out, 0, sizeof *out);
  std::memcpy(out, &map, sizeof map);
  return CUDA_SUCCESS;
}

void start_tensor_copy(void* to_shared, const CUtensorMap* described, uint64_t* barrier, int rank,
                       std::array<int, kMaximumRank> origin, std::source_location where) {
  TensorCopy copy;
  std::memcpy(static_cast<void*>(&copy.map), described, sizeof copy.map);
  if (copy.map.magic != kMagic) fail("TMA copy at {}: this is no tensor map", place(where));
  if (copy.map.rank != rank)
    fail("TMA copy at {}: the tensor has {} dimensions", place(where), copy.map.rank);
  if (shared_address(to_shared, where) % 128 != 0)
    fail("TMA copy at {}: the destination is not 128-byte aligned", place(where));
  copy.origin = origin;
  start(copy, to_shared, barrier, where);
}

void start_bulk_copy(void* to_shared, const void* from, uint32_t bytes, uint64_t* barrier,
                     std::source_location where) {
  constexpr uint32_t kPiece = 16;
  if (shared_address(to_shared, where) % kPiece != 0 || reinterpret_cast<uintptr_t>(from) % kPiece != 0)
    fail("TMA copy at {}: the addresses are not 16-byte aligned", place(where));
  if (bytes == 0 || bytes % kPiece != 0 || bytes / kPiece > 0xffff)
    fail("TMA copy at {}: {} bytes, expected a multiple of 16 below 1 MiB", place(where), bytes);
  check_device_range("cp.async.bulk", "source", from, bytes);
  TensorCopy copy;  // a row of 16-byte elements
  copy.map.data = static_cast<const char*>(from);
  copy.map.rank = 1;
  copy.map.element_bytes = kPiece;
  copy.map.sizes[0] = bytes / kPiece;
  copy.map.strides[0] = kPiece;
  copy.map.box[0] = static_cast<uint16_t>(bytes / kPiece);
  start(copy, to_shared, barrier, where);
}

void do_tensor_copy(const TensorCopy& copy) {
  acquire(copy.barrier);
  const TensorMap& map = copy.map;
  const uint64_t count = box_elements(map);
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t rest = i;
    const char* from = map.data;
    bool inside = true;
    for (size_t d = 0; d < map.rank; ++d) {
      const int64_t index = copy.origin[d] + static_cast<int64_t>(rest % map.box[d]);
      rest /= map.box[d];
      inside = inside && index >= 0 && index < map.sizes[d];
      from += index * static_cast<int64_t>(map.strides[d]);
    }
    const uint32_t address =
        swizzled(copy.to_address + static_cast<uint32_t>(i) * map.element_bytes, map.swizzle_bytes);
    unsigned char* to = copy.to + (static_cast<int64_t>(address) - copy.to_address);
    if (inside)
      std::memcpy(to, from, map.element_bytes);
    else
      std::memset(to, 0, map.element_bytes);
  }
  mbarrier_complete(copy.barrier, static_cast<uint32_t>(count * map.element_bytes));
}

}  // namespace polar::emulator
