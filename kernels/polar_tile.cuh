// What the kernels of the polar products share: the description of a product, and how a block's tile of the
// result is finished: scaled, added to, mirrored, written. Tiles are kPolarEdge square.
#pragma once

#include "pieces.cuh"
#include "tile.cuh"

namespace polar::kernels {

constexpr int kPolarEdge = 128;

// c = alpha a b + beta addend, matrix after matrix. Element (i, k) of a is a[i * a_stride + k] if stored
// row_depth, a[k * a_stride + i] if depth_row; likewise element (k, j) of b: b[j * b_stride + k], b[k *
// b_stride + j].
template <class T>
struct BatchedProduct {
  const T *a, *b, *addend;  // addend: laid out as c, or null
  T* c;
  int rows, cols, depth;
  int64_t a_stride, b_stride;            // c's and the addend's rows follow each other
  int64_t a_matrix, b_matrix, c_matrix;  // elements from one matrix to the next
  float alpha, beta;
};

// The kinds of products: how both operands are stored, and whether only half of the tiles are computed.
enum class PolarProduct {
  symmetric_by_row,     // x x^T: both row_depth
  symmetric_by_column,  // x^T x: both depth_row
  general               // a row_depth, b depth_row
};
// The same product by Hopper's kernels, where they can run; rows are whole 16-byte pieces.
bool has_polar_products_sm90();
cudaError_t polar_product_sm90(PolarProduct kind, const BatchedProduct<bf16>& args, int64_t batch,
                               cudaStream_t stream);

template <class T>
using ResultTile = SharedTile<T, kPolarEdge>;

// Copies a part of a matrix to a tile of kRows rows; what lies outside [0, rows) x [0, cols) becomes zero.
// With kAligned asynchronously in 16-byte pieces, of which none is cut; else element by element.
template <bool kAligned, int kRows, int kThreads, class T, int kWidth>
__device__ __forceinline__ void copy_part(SharedTile<T, kWidth> to, const T* from, int64_t stride, int rows,
                                          int cols, int thread) {
  using Tile = SharedTile<T, kWidth>;
  if constexpr (kAligned) {
    static_assert(kRows * Tile::kChunks % kThreads == 0);
#pragma unroll
    for (int begin = 0; begin < kRows * Tile::kChunks; begin += kThreads) {
      const int i = begin + thread, row = i / Tile::kChunks, chunk = i % Tile::kChunks;
      const bool valid = row < rows && chunk * Tile::kElements < cols;
      cp_async16(to.chunk(row, chunk), valid ? from + row * stride + chunk * Tile::kElements : from, valid);
    }
  } else {
    for (int i = thread; i < kRows * kWidth; i += kThreads) {
      const int row = i / kWidth, col = i % kWidth;
      *to.at(row, col) = row < rows && col < cols ? from[row * stride + col] : from_float<T>(0.0f);
    }
  }
}

// A block's part of a product: tile blockIdx.x of matrix blockIdx.y. Of a symmetric one only the tiles on and
// below the diagonal are numbered, row by row.
template <class T>
struct ProductPart {
  int first_row, first_col;
  const T *a, *b, *addend;  // of the matrix
  T* c;

  template <bool kSymmetric>
  static __device__ __forceinline__ ProductPart of(const BatchedProduct<T>& args) {
    const int tile = static_cast<int>(blockIdx.x), across = (args.cols + kPolarEdge - 1) / kPolarEdge;
    int row = tile / across;
    int before = row * across;  // tiles in the rows above
    if constexpr (kSymmetric) {
      row = static_cast<int>((sqrtf(8.0f * static_cast<float>(tile) + 1.0f) - 1.0f) * 0.5f);
      while (row * (row + 1) / 2 > tile) --row;  // the root was rounded
      while ((row + 1) * (row + 2) / 2 <= tile) ++row;
      before = row * (row + 1) / 2;
    }
    const int64_t matrix = blockIdx.y;
    return {row * kPolarEdge,
            (tile - before) * kPolarEdge,
            args.a + matrix * args.a_matrix,
            args.b + matrix * args.b_matrix,
            args.addend == nullptr ? nullptr : args.addend + matrix * args.c_matrix,
            args.c + matrix * args.c_matrix};
  }
};
template <bool kSymmetric, class T>
dim3 product_grid(const BatchedProduct<T>& args, int64_t batch) {
  const int64_t down = divide_up(args.rows, kPolarEdge), across = divide_up(args.cols, kPolarEdge);
  return dim3(static_cast<unsigned>(kSymmetric ? down * (down + 1) / 2 : down * across),
              static_cast<unsigned>(batch));
}

// Writes the tile `result` to its place in c, as far as c goes.
template <bool kAligned, int kThreads, class T>
__device__ __forceinline__ void write_tile(const BatchedProduct<T>& args, const ProductPart<T>& part,
                                           ResultTile<T> result, int thread) {
  constexpr int kChunks = kPolarEdge / kPiece<T>;
  for (int i = thread; i < kPolarEdge * kChunks; i += kThreads) {
    const int row = i / kChunks, chunk = i % kChunks, col = part.first_col + chunk * kPiece<T>;
    if (part.first_row + row >= args.rows || col >= args.cols) continue;
    T* to = part.c + static_cast<int64_t>(part.first_row + row) * args.cols + col;
    const T* from = result.chunk(row, chunk);
    if constexpr (kAligned) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int j = 0; j < kPiece<T> && col + j < args.cols; ++j) to[j] = from[j];
    }
  }
}

// Writes its transpose: result[i][j] goes to row first_col + j, column first_row + i. Lanes run along j, so
// that they read neighbours; each gathers 16 bytes of a row of c.
template <bool kAligned, int kThreads, class T>
__device__ __forceinline__ void write_transposed(const BatchedProduct<T>& args, const ProductPart<T>& part,
                                                 ResultTile<T> result, int thread) {
  constexpr int kChunks = kPolarEdge / kPiece<T>;
  for (int i = thread; i < kPolarEdge * kChunks; i += kThreads) {
    const int j = i % kPolarEdge, row = i / kPolarEdge * kPiece<T>;
    if (part.first_col + j >= args.cols || part.first_row + row >= args.rows) continue;
    T* to = part.c + static_cast<int64_t>(part.first_col + j) * args.cols + part.first_row + row;
    if constexpr (kAligned) {
      Vector<T> piece;
#pragma unroll
      for (int e = 0; e < kPiece<T>; ++e) piece.value[e] = to_float(*result.at(row + e, j));
      store_vector(to, piece);
    } else {
      for (int e = 0; e < kPiece<T> && part.first_row + row + e < args.rows; ++e)
        to[e] = *result.at(row + e, j);
    }
  }
}

// Copies what lies below the diagonal of a tile above it.
template <int kThreads, class T>
__device__ __forceinline__ void mirror_tile(ResultTile<T> result, int thread) {
  for (int i = thread; i < kPolarEdge * kPolarEdge; i += kThreads) {
    const int row = i / kPolarEdge, col = i % kPolarEdge;
    if (col > row) *result.at(row, col) = *result.at(col, row);
  }
}

// A warp's fragment, scaled and with its part of the addend (which `result` holds), into `result`.
template <class T, int kRowBlocks, int kColumnBlocks>
__device__ __forceinline__ void combine(ResultTile<T> result, int row, int col, float alpha, float beta,
                                        bool has_addend, float (&c)[kRowBlocks][kColumnBlocks][4]) {
#pragma unroll
  for (int m = 0; m < kRowBlocks; ++m)
#pragma unroll
    for (int n = 0; n < kColumnBlocks; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        c[m][n][e] *= alpha;
        if (has_addend) {
          const T* addend = result.at(row + 16 * m + fragment_row(e), col + 8 * n + fragment_column(e));
          c[m][n][e] = fmaf(beta, to_float(*addend), c[m][n][e]);
        }
      }
  store_fragment(result, row, col, c);
}

// The addend's part, to where the result will stand. Waits for this thread's copies.
template <bool kAligned, int kThreads, class T>
__device__ __forceinline__ void copy_addend(const BatchedProduct<T>& args, const ProductPart<T>& part,
                                            ResultTile<T> result, int thread) {
  const T* from = part.addend + static_cast<int64_t>(part.first_row) * args.cols + part.first_col;
  copy_part<kAligned, kPolarEdge, kThreads>(result, from, args.cols, args.rows - part.first_row,
                                            args.cols - part.first_col, thread);
  cp_async_commit();
  cp_async_wait<0>();
}

// Writes a result whose parts the threads have combined: where the product is symmetric, twice, and on the
// diagonal what lies below it. `barrier` lets these kThreads threads wait for each other.
template <bool kSymmetric, bool kAligned, int kThreads, class T, class Barrier>
__device__ __forceinline__ void finish_tile(const BatchedProduct<T>& args, const ProductPart<T>& part,
                                            ResultTile<T> result, int thread, const Barrier& barrier) {
  barrier();
  if constexpr (kSymmetric) {
    if (part.first_row == part.first_col) {
      mirror_tile<kThreads>(result, thread);
      barrier();
    } else {
      write_transposed<kAligned, kThreads>(args, part, result, thread);
    }
  }
  write_tile<kAligned, kThreads>(args, part, result, thread);
}

}  // namespace polar::kernels
