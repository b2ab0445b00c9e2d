// The host side of TMA: descriptions of matrices in device memory from which the engine copies tiles.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "types.h"

namespace polar::kernels {

// Describes a bf16 matrix (rows, cols) with `stride` elements a row, of which tma_load_2d copies tiles of
// (tile_rows, 64), with the 128-byte swizzle that wgmma expects. `data` is 16-byte aligned, `stride` a
// multiple of 8, tile_rows at most 256. cudaErrorInvalidValue if it cannot be described,
// cudaErrorNotSupported if the driver knows no TMA.
inline cudaError_t make_tensor_map(CUtensorMap* map, const bf16* data, int64_t rows, int64_t cols,
                                   int64_t stride, int tile_rows) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  constexpr unsigned kSinceVersion = 12000;
  const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                              kSinceVersion, cudaEnableDefault, &found);
  if (status != cudaSuccess) return status;
  if (found != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
  const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(cols), static_cast<cuuint64_t>(rows)};
  const cuuint64_t strides[1] = {static_cast<cuuint64_t>(stride) * sizeof(bf16)};
  const cuuint32_t box[2] = {64, static_cast<cuuint32_t>(tile_rows)};
  const cuuint32_t steps[2] = {1, 1};
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, const_cast<bf16*>(data), sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace polar::kernels
