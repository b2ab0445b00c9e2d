// Tiles of matrices in shared memory and a warp's products with them, in one form for both dtypes: bf16 on
// the tensor cores (mma.m16n8k16), float by FMAs that are spread over the lanes in the same way. A kernel is
// so written once; what differs is the speed.
//
// A fragment `float c[row blocks][column blocks][4]` is a warp's part of a result: 16 rows x 8 columns a
// block. Of each block a lane holds the elements e = 0..3 at (fragment_row(e), fragment_column(e)): mma's
// accumulator.
#pragma once

#include "ptx.cuh"
#include "reduce.cuh"
#include "vector.cuh"

namespace polar::kernels {

__device__ __forceinline__ int lane_index() {
  return static_cast<int>(threadIdx.x) % kWarpSize;
}
__device__ __forceinline__ int fragment_row(int element) {
  return lane_index() / 4 + 8 * (element / 2);
}
__device__ __forceinline__ int fragment_column(int element) {
  return 2 * (lane_index() % 4) + element % 2;
}

template <int kRowBlocks, int kColumnBlocks>
__device__ __forceinline__ void clear(float (&c)[kRowBlocks][kColumnBlocks][4]) {
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) c[m][n][e] = 0.0f;
}

// Rows of kWidth elements in 16-byte chunks. The chunks of a row are permuted so that eight consecutive rows'
// equal chunks (what ldmatrix and the float products read at a time) lie in different banks.
template <class T, int kWidth>
struct SharedTile {
  static constexpr int kElements = 16 / static_cast<int>(sizeof(T));  // of a chunk
  static constexpr int kChunks = kWidth / kElements;
  static constexpr bool kWholeLines = kChunks % 8 == 0;  // rows of whole 128-byte lines of banks
  static_assert(kWidth % kElements == 0 && kChunks % 4 == 0);
  T* data;

  static constexpr int kTurns = kWholeLines ? 8 : 4;  // chunks that change places with each other

  static __device__ __forceinline__ int turn(int row) { return kWholeLines ? row & 7 : (row >> 1) & 3; }
  __device__ __forceinline__ T* chunk(int row, int index) const {
    return data + row * kWidth + (index ^ turn(row)) * kElements;
  }
  // chunk(row + lane_row, 2 * pair + odd) for a row that is a multiple of 8. What depends on the lane is kept
  // apart from what does not: a loop that is unrolled over pairs and rows needs kTurns / 2 addresses, to
  // which constants are added.
  __device__ __forceinline__ T* lane_chunk(int row, int lane_row, int pair, int odd) const {
    const int within = 2 * pair % kTurns, group = 2 * pair - within;
    const int lane_part = lane_row * kWidth + ((within + odd) ^ turn(lane_row)) * kElements;
    return data + lane_part + (row * kWidth + group * kElements);
  }
  __device__ __forceinline__ T* at(int row, int column) const {
    return chunk(row, column / kElements) + column % kElements;
  }
};

// How a tile stores an operand of a product whose inner dimension is `depth`.
enum class Stored { row_depth, depth_row };

// A thread's part in copying rows of a matrix to tiles, kThreads threads together: it keeps its column and
// goes down the rows in equal steps, so that one number is all it has to remember. Pointer and stride are
// good for 16-byte accesses; the rows lie within 2^32 elements.
template <class T, int kWidth, int kThreads>
struct RowCopy {
  using Tile = SharedTile<T, kWidth>;
  static constexpr int rows_of_a_pass(int most) { return most < 2 ? 1 : 2 * rows_of_a_pass(most / 2); }
  static constexpr int kStep = rows_of_a_pass(kThreads / Tile::kChunks);  // a power of 2; threads may be over
  const T* rows;
  uint32_t next, step;

  __device__ __forceinline__ RowCopy(const T* rows_, int64_t stride)
      : rows(rows_),
        next(static_cast<uint32_t>(row()) * static_cast<uint32_t>(stride) +
             static_cast<uint32_t>(chunk() * Tile::kElements)),
        step(kStep * static_cast<uint32_t>(stride)) {}
  static __device__ __forceinline__ int row() { return static_cast<int>(threadIdx.x) / Tile::kChunks; }
  static __device__ __forceinline__ int chunk() { return static_cast<int>(threadIdx.x) % Tile::kChunks; }

  // Starts to copy the next kRows rows by cp.async; rows from `valid` on become zeros.
  template <int kRows>
  __device__ __forceinline__ void start(Tile to, int valid) {
    static_assert(kRows % kStep == 0);
    if (kThreads != kStep * Tile::kChunks && row() >= kStep) return;
#pragma unroll
    for (int pass = 0; pass < kRows; pass += kStep) {
      cp_async16(to.chunk(row() + pass, chunk()), rows + next, row() + pass < valid);
      next += step;
    }
  }
};

// Starts to copy the first kRows rows of a matrix; rows from `valid` (> 0) on become zeros.
template <int kRows, int kThreads, class T, int kWidth>
__device__ __forceinline__ void start_copy(SharedTile<T, kWidth> to, const T* from, int64_t stride,
                                           int valid) {
  RowCopy<T, kWidth, kThreads>(from, stride).template start<kRows>(to, valid);
}

// --- products, bf16 ---

// Operand a (16 rows from row + 16 block, 16 of the depth from 16 step) for mma. Stored depth_row, `row` is a
// multiple of 64: whole groups of chunks.
template <Stored kStored, int kWidth>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], SharedTile<bf16, kWidth> tile, int row, int block,
                                       int step) {
  const int lane = lane_index();
  if constexpr (kStored == Stored::row_depth)
    ldmatrix_x4(a, tile.lane_chunk(row + 16 * block, lane % 16, step, lane / 16));
  else
    ldmatrix_x4_trans(a, tile.lane_chunk(16 * step, lane / 16 * 8 + lane % 8, block, lane / 8 % 2) + row);
}
// Operand b for two blocks (16 columns from column + 16 pair): b[0], b[1] and b[2], b[3]. Stored depth_row,
// `column` is a multiple of 64.
template <Stored kStored, int kWidth>
__device__ __forceinline__ void load_b(uint32_t (&b)[4], SharedTile<bf16, kWidth> tile, int column, int pair,
                                       int step) {
  const int lane = lane_index();
  if constexpr (kStored == Stored::row_depth)
    ldmatrix_x4(b, tile.lane_chunk(column + 16 * pair, lane / 16 * 8 + lane % 8, step, lane / 8 % 2));
  else
    ldmatrix_x4_trans(b, tile.lane_chunk(16 * step, lane % 16, pair, lane / 16) + column);
}

// c += a b, a 16 rows a block from a_row, b 8 columns a block from b_column, over the whole kDepth of the
// tiles.
template <int kDepth, Stored kStoredA, Stored kStoredB, int kRowBlocks, int kColumnBlocks, int kWidthA,
          int kWidthB>
__device__ __forceinline__ void multiply(float (&c)[kRowBlocks][kColumnBlocks][4],
                                         SharedTile<bf16, kWidthA> a, int a_row, SharedTile<bf16, kWidthB> b,
                                         int b_column) {
  static_assert(kDepth % 16 == 0 && kColumnBlocks % 2 == 0);
#pragma unroll 4  // as many as need addresses of their own
  for (int step = 0; step < kDepth / 16; ++step) {
    uint32_t left[kRowBlocks][4];
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m) load_a<kStoredA>(left[m], a, a_row, m, step);
#pragma unroll
    for (int n = 0; n < kColumnBlocks; n += 2) {
      uint32_t right[4];
      load_b<kStoredB>(right, b, b_column, n / 2, step);
      const uint32_t first[2] = {right[0], right[1]}, second[2] = {right[2], right[3]};
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) {
        mma_m16n8k16(c[m][n], left[m], first, c[m][n]);
        mma_m16n8k16(c[m][n + 1], left[m], second, c[m][n + 1]);
      }
    }
  }
}

// c += p b, p a fragment (rounded to bf16), b stored [depth][column]. No scratch is needed.
template <int kRowBlocks, int kDepthBlocks, int kColumnBlocks, int kWidth>
__device__ __forceinline__ void multiply_fragment(float (&c)[kRowBlocks][kColumnBlocks][4],
                                                  const float (&p)[kRowBlocks][kDepthBlocks][4],
                                                  SharedTile<bf16, kWidth> b, float* /*scratch*/) {
  static_assert(kDepthBlocks % 2 == 0 && kColumnBlocks % 2 == 0);
#pragma unroll
  for (int step = 0; step < kDepthBlocks / 2; ++step) {
    uint32_t left[kRowBlocks][4];
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float(&block)[4] = p[m][2 * step + i / 2];
        left[m][i] = pack_bf16(block[i % 2 * 2], block[i % 2 * 2 + 1]);
      }
#pragma unroll
    for (int n = 0; n < kColumnBlocks; n += 2) {
      uint32_t right[4];
      load_b<Stored::depth_row>(right, b, 0, n / 2, step);
      const uint32_t first[2] = {right[0], right[1]}, second[2] = {right[2], right[3]};
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) {
        mma_m16n8k16(c[m][n], left[m], first, c[m][n]);
        mma_m16n8k16(c[m][n + 1], left[m], second, c[m][n + 1]);
      }
    }
  }
}

// --- products, float ---

// Elements [4 step, 4 step + 4) of the depth of one row of an operand.
template <Stored kStored, int kWidth>
__device__ __forceinline__ void load_four(float (&out)[4], SharedTile<float, kWidth> tile, int row,
                                          int step) {
  if constexpr (kStored == Stored::row_depth) {
    const float4 four = *reinterpret_cast<const float4*>(tile.chunk(row, step));
    out[0] = four.x, out[1] = four.y, out[2] = four.z, out[3] = four.w;
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = *tile.at(4 * step + i, row);
  }
}
// c += left right for the two rows and two columns of one block that a lane holds.
__device__ __forceinline__ void multiply_block(float (&c)[4], const float (&left)[2][4],
                                               const float (&right)[2][4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int e = 0; e < 4; ++e) c[e] = fmaf(left[e / 2][i], right[e % 2][i], c[e]);
}

template <int kDepth, Stored kStoredA, Stored kStoredB, int kRowBlocks, int kColumnBlocks, int kWidthA,
          int kWidthB>
__device__ __forceinline__ void multiply(float (&c)[kRowBlocks][kColumnBlocks][4],
                                         SharedTile<float, kWidthA> a, int a_row,
                                         SharedTile<float, kWidthB> b, int b_column) {
#pragma unroll 1
  for (int step = 0; step < kDepth / 4; ++step) {
    float left[kRowBlocks][2][4];
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
      for (int i = 0; i < 2; ++i)
        load_four<kStoredA>(left[m][i], a, a_row + 16 * m + fragment_row(2 * i), step);
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
      float right[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        load_four<kStoredB>(right[i], b, b_column + 8 * n + fragment_column(i), step);
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) multiply_block(c[m][n], left[m], right);
    }
  }
}

// The warp's p passes through `scratch`: fragment_scratch(row blocks, depth blocks) floats of shared memory
// that are its own.
__host__ __device__ constexpr int fragment_stride(int depth_blocks) {
  return 8 * depth_blocks + 4;
}  // 4: no conflicts of banks
__host__ __device__ constexpr int fragment_scratch(int row_blocks, int depth_blocks) {
  return 16 * row_blocks * fragment_stride(depth_blocks);
}
template <int kRowBlocks, int kDepthBlocks, int kColumnBlocks, int kWidth>
__device__ __forceinline__ void multiply_fragment(float (&c)[kRowBlocks][kColumnBlocks][4],
                                                  const float (&p)[kRowBlocks][kDepthBlocks][4],
                                                  SharedTile<float, kWidth> b, float* scratch) {
  constexpr int kStride = fragment_stride(kDepthBlocks);
  __syncwarp();  // the scratch's earlier contents may still be read
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int n = 0; n < kDepthBlocks; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        scratch[(16 * m + fragment_row(e)) * kStride + 8 * n + fragment_column(e)] = p[m][n][e];
  __syncwarp();
#pragma unroll 1
  for (int step = 0; step < 2 * kDepthBlocks; ++step) {
    float left[kRowBlocks][2][4];
#pragma unroll
    for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          left[m][i][j] = scratch[(16 * m + fragment_row(2 * i)) * kStride + 4 * step + j];
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n) {
      float right[2][4];
#pragma unroll
      for (int i = 0; i < 2; ++i) load_four<Stored::depth_row>(right[i], b, 8 * n + fragment_column(i), step);
#pragma unroll
      for (int m = 0; m < kRowBlocks; ++m) multiply_block(c[m][n], left[m], right);
    }
  }
}

// --- from fragments to memory ---

// Rounds a fragment into a tile of its dtype, from (row, column) on.
template <int kRowBlocks, int kColumnBlocks, class T, int kWidth>
__device__ __forceinline__ void store_fragment(SharedTile<T, kWidth> to, int row, int column,
                                               const float (&c)[kRowBlocks][kColumnBlocks][4]) {
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        T* at = to.at(row + 16 * m + fragment_row(2 * i), column + 8 * n + fragment_column(0));
        const float low = c[m][n][2 * i], high = c[m][n][2 * i + 1];
        if constexpr (sizeof(T) == sizeof(bf16))
          *reinterpret_cast<uint32_t*>(at) = pack_bf16(low, high);
        else
          *reinterpret_cast<float2*>(at) = make_float2(low, high);
      }
}

// Copies kRows rows of a tile from `row` on to device memory by one warp; rows from `valid` on are left out.
template <int kRows, class T, int kWidth>
__device__ __forceinline__ void copy_out(T* to, int64_t stride, SharedTile<T, kWidth> from, int row,
                                         int valid) {
  using Tile = SharedTile<T, kWidth>;
#pragma unroll
  for (int i = lane_index(); i < kRows * Tile::kChunks; i += kWarpSize) {
    const int r = i / Tile::kChunks, chunk = i % Tile::kChunks;
    if (r < valid)
      *reinterpret_cast<uint4*>(to + r * stride + chunk * Tile::kElements) =
          *reinterpret_cast<const uint4*>(from.chunk(row + r, chunk));
  }
}

}  // namespace polar::kernels
