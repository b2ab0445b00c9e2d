// Gradients that are sums over rows (a norm's weight): rows are cut into blocks, each block sums into its own
// part of the workspace, and the blocks are added in turn. The cut depends on the number of rows alone.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/cpu/parallel.h"
#include "tensor/tensor.h"

namespace polar::cpu {

struct RowBlocks {
  static constexpr int64_t kSmallestBlock = 16, kMaximumBlocks = 64;
  int64_t size, count;
  explicit RowBlocks(int64_t rows)
      : size(std::max(kSmallestBlock, divide_up(rows, kMaximumBlocks))), count(divide_up(rows, size)) {}
};

// Bytes of the partial sums of `width` values.
inline size_t row_block_workspace(int64_t rows, int64_t width, DType dtype) {
  return static_cast<size_t>(RowBlocks(rows).count * width) * size_of(dtype);
}

// Calls row_task(row, partial) for every row; it adds its terms to partial[0, width), which are then added to
// total[0, width).
template <class T, class RowTask>
void accumulate_row_blocks(int64_t rows, int64_t width, T* workspace, T* total, const RowTask& row_task) {
  const RowBlocks blocks(rows);
  parallel_ranges(rows, blocks.size, [&](int64_t begin, int64_t end) {
    T* partial = workspace + begin / blocks.size * width;
    std::fill(partial, partial + width, T(0));
    for (int64_t row = begin; row < end; ++row) row_task(row, partial);
  });
  for (int64_t block = 0; block < blocks.count; ++block) {
    const T* partial = workspace + block * width;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) total[j] += partial[j];
  }
}

}  // namespace polar::cpu
