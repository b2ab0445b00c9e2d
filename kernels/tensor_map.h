// The host side of TMA: descriptions of matrices in device memory from which the engine copies tiles.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "types.h"

namespace polar::kernels {

// Encodes a map of `rank` dimensions, sizes from the contiguous one outwards, strides (elements) from the
// second; the box is 64 columns of tile_rows rows.
inline cudaError_t encode_tensor_map(CUtensorMap* map, const bf16* data, int rank, const int64_t* sizes,
                                     const int64_t* strides, int tile_rows) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  constexpr unsigned kSinceVersion = 12000;
  const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                              kSinceVersion, cudaEnableDefault, &found);
  if (status != cudaSuccess) return status;
  if (found != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
  constexpr int kMaximumRank = 3;
  cuuint64_t counts[kMaximumRank] = {}, bytes[kMaximumRank] = {};
  for (int i = 0; i < rank; ++i) counts[i] = static_cast<cuuint64_t>(sizes[i]);
  for (int i = 0; i + 1 < rank; ++i) bytes[i] = static_cast<cuuint64_t>(strides[i]) * sizeof(bf16);
  const cuuint32_t box[kMaximumRank] = {64, static_cast<cuuint32_t>(tile_rows), 1};
  const cuuint32_t steps[kMaximumRank] = {1, 1, 1};
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(rank), const_cast<bf16*>(data),
             counts, bytes, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

// Describes a bf16 matrix (rows, cols) with `stride` elements a row, of which tma_load_2d copies tiles of
// (tile_rows, 64), with the 128-byte swizzle that wgmma expects. `data` is 16-byte aligned, `stride` a
// multiple of 8, tile_rows at most 256. cudaErrorInvalidValue if it cannot be described,
// cudaErrorNotSupported if the driver knows no TMA.
inline cudaError_t make_tensor_map(CUtensorMap* map, const bf16* data, int64_t rows, int64_t cols,
                                   int64_t stride, int tile_rows) {
  const int64_t sizes[2] = {cols, rows};
  return encode_tensor_map(map, data, 2, sizes, &stride, tile_rows);
}

// The same for `planes` such matrices, plane_stride (a multiple of 8) elements apart, for tma_load_3d: rows
// behind the end of a plane are zeros, not rows of the next.
inline cudaError_t make_tensor_map(CUtensorMap* map, const bf16* data, int64_t planes, int64_t rows,
                                   int64_t cols, int64_t stride, int64_t plane_stride, int tile_rows) {
  const int64_t sizes[3] = {cols, rows, planes}, strides[2] = {stride, plane_stride};
  return encode_tensor_map(map, data, 3, sizes, strides, tile_rows);
}

}  // namespace polar::kernels
