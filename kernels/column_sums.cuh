// Sums over the rows of a matrix, a result for each column: gradients of biases and of norms' weights. In two
// stages and a fixed order: blocks of rows are summed into F32 partials, row-major (blocks, cols), then the
// partials are added to the result.
#pragma once

#include "pieces.cuh"

namespace polar::kernels {

// How many blocks the rows are cut into: the number of rows alone decides.
constexpr int64_t kRowsOfSmallestBlock = 16, kMaximumRowBlocks = 384;
constexpr int64_t row_blocks(int64_t rows) {
  const int64_t blocks = divide_up(rows, kRowsOfSmallestBlock);
  return blocks < kMaximumRowBlocks ? blocks : kMaximumRowBlocks;
}

constexpr int kColumnLanes = 32, kRowLanes = 16;

// out[b * out_stride + col] = (or +=, accumulate) the sum of term(row, col) over the rows of block b. Thread
// (x, y) of a block adds the rows y, y + kRowLanes, ... of a column in turn; then the y are added in turn.
template <class Term, bool accumulate>
__global__ void __launch_bounds__(kColumnLanes* kRowLanes)
    column_sums_kernel(Term term, int64_t rows, int64_t cols, int64_t rows_per_block, float* out,
                       int64_t out_stride) {
  DEVICE_SHARED(float, sums, [kRowLanes][kColumnLanes]);
  const int x = static_cast<int>(threadIdx.x) % kColumnLanes,
            y = static_cast<int>(threadIdx.x) / kColumnLanes;
  const int64_t col = static_cast<int64_t>(blockIdx.x) * kColumnLanes + x;
  const int64_t begin = blockIdx.y * rows_per_block;
  const int64_t end = begin + rows_per_block < rows ? begin + rows_per_block : rows;
  float sum = 0.0f;
  if (col < cols)
    for (int64_t row = begin + y; row < end; row += kRowLanes) sum += term(row, col);
  sums[y][x] = sum;
  __syncthreads();
  if (y == 0 && col < cols) {
    float total = sums[0][x];
#pragma unroll
    for (int i = 1; i < kRowLanes; ++i) total += sums[i][x];
    float& to = out[blockIdx.y * out_stride + col];
    to = accumulate ? to + total : total;
  }
}

template <bool accumulate, class Term>
cudaError_t sum_columns(const Term& term, int64_t rows, int64_t cols, int64_t blocks, float* out,
                        int64_t out_stride, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(divide_up(cols, kColumnLanes)), static_cast<unsigned>(blocks));
  return device_launch(LaunchConfig(grid, kColumnLanes * kRowLanes, 0, stream),
                       &column_sums_kernel<Term, accumulate>, term, rows, cols, divide_up(rows, blocks), out,
                       out_stride);
}

template <class T>
struct MatrixTerm {
  const T* data;
  int64_t stride;
  __device__ __forceinline__ float operator()(int64_t row, int64_t col) const {
    return to_float(data[row * stride + col]);
  }
};

// out[col] += the partials' column sums.
inline cudaError_t add_partials(const float* partials, int64_t blocks, int64_t cols, float* out,
                                cudaStream_t stream) {
  return sum_columns<true>(MatrixTerm<float>{partials, cols}, blocks, cols, 1, out, cols, stream);
}

}  // namespace polar::kernels
