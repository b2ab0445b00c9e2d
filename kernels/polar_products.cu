// Products of the polar iterations on a batch of equally shaped contiguous matrices: T = float or bf16, `=`.
//   gram        a (s, s) = x x^T (m <= n) or x^T x        2 s^2 l / 2 FLOPs, s = min(m, n), l = max(m, n)
//   polynomial  b (s, s) = c1 a + c2 a a^T                2 s^3 / 2
//   apply       y (m, n) = c0 x + b x (m <= n) or c0 x + x b    2 s^2 l
// Tall and wide matrices differ only in how operands lie in memory; nothing is transposed beforehand. The
// symmetric ones compute the tiles on and below the diagonal and write each twice, the second time
// transposed: that is the factor 1/2.
//
// Floor: these FLOPs at the rate of the tensor cores (bf16) or of FMAs (float); bytes: every matrix read and
// written once per block of tiles that shares it in the L2 cache.
//
// A block computes a tile of 128 x 128 by 4 warps of 64 x 64 (float: 8 of 64 x 32). Both operands pass
// through shared memory in slices of the inner dimension, several of them under way (cp.async).
#include "pieces.cuh"
#include "polar.h"
#include "tile.cuh"

namespace polar::kernels {

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

template <class T>
struct ProductTiling {
  static constexpr int kEdge = 128;
  static constexpr int kWarpRows = 64, kWarpCols = sizeof(T) == sizeof(float) ? 32 : 64;  // of one warp
  static constexpr int kWarpsAcross = kEdge / kWarpCols;
  static constexpr int kThreads = kEdge / kWarpRows * kWarpsAcross * kWarpSize;
  static constexpr int kDepth = 64 / static_cast<int>(sizeof(T)), kStages = 4;
  static constexpr int kOperand = kEdge * kDepth;  // elements of a slice of one operand
  static constexpr size_t kStageBytes = 2 * sizeof(T) * kOperand;
  static constexpr size_t kResultBytes =
      sizeof(T) * kEdge * kEdge;  // takes the place of the stages at the end
  static constexpr size_t kSharedBytes =
      kStages * kStageBytes > kResultBytes ? kStages* kStageBytes : kResultBytes;
};

// A slice of an operand in shared memory: kEdge rows (or columns) of the result, kDepth of the inner
// dimension.
template <class T, Stored kStored>
using OperandTile =
    SharedTile<T, kStored == Stored::row_depth ? ProductTiling<T>::kDepth : ProductTiling<T>::kEdge>;

// Copies a part of a matrix to a tile of kRows rows; what lies outside [0, rows) x [0, cols) becomes zero.
// With kAligned asynchronously in 16-byte pieces, of which none is cut; else element by element.
template <bool kAligned, int kRows, int kThreads, class T, int kWidth>
__device__ __forceinline__ void copy_part(SharedTile<T, kWidth> to, const T* from, int64_t stride, int rows,
                                          int cols) {
  using Tile = SharedTile<T, kWidth>;
  if constexpr (kAligned) {
    static_assert(kRows * Tile::kChunks % kThreads == 0);
#pragma unroll
    for (int begin = 0; begin < kRows * Tile::kChunks; begin += kThreads) {
      const int i = begin + static_cast<int>(threadIdx.x), row = i / Tile::kChunks, chunk = i % Tile::kChunks;
      const bool valid = row < rows && chunk * Tile::kElements < cols;
      cp_async16(to.chunk(row, chunk), valid ? from + row * stride + chunk * Tile::kElements : from, valid);
    }
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kWidth; i += kThreads) {
      const int row = i / kWidth, col = i % kWidth;
      *to.at(row, col) = row < rows && col < cols ? from[row * stride + col] : from_float<T>(0.0f);
    }
  }
}

// The slice from `first` (row or column of the result) and `k` of one operand with `count` rows or columns.
template <bool kAligned, Stored kStored, class T>
__device__ __forceinline__ void copy_slice(T* to, const T* from, int64_t stride, int first, int count, int k,
                                           int depth) {
  using Tiling = ProductTiling<T>;
  const OperandTile<T, kStored> tile{to};
  if constexpr (kStored == Stored::row_depth)
    copy_part<kAligned, Tiling::kEdge, Tiling::kThreads>(tile, from + first * stride + k, stride,
                                                         count - first, depth - k);
  else
    copy_part<kAligned, Tiling::kDepth, Tiling::kThreads>(tile, from + k * stride + first, stride, depth - k,
                                                          count - first);
}

// The row and column of tile i of a lower triangle, row by row.
struct TriangleTile {
  int row, col;
  __device__ __forceinline__ explicit TriangleTile(int i) {
    row = static_cast<int>((sqrtf(8.0f * static_cast<float>(i) + 1.0f) - 1.0f) * 0.5f);
    while (row * (row + 1) / 2 > i) --row;  // the root was rounded
    while ((row + 1) * (row + 2) / 2 <= i) ++row;
    col = i - row * (row + 1) / 2;
  }
};

// Writes the tile `result` to c from (first_row, first_col) on, as far as c goes.
template <bool kAligned, class T>
__device__ __forceinline__ void write_tile(const BatchedProduct<T>& args, T* c,
                                           SharedTile<T, ProductTiling<T>::kEdge> result, int first_row,
                                           int first_col) {
  using Tiling = ProductTiling<T>;
  constexpr int kChunks = Tiling::kEdge / kPiece<T>;
  for (int i = static_cast<int>(threadIdx.x); i < Tiling::kEdge * kChunks; i += Tiling::kThreads) {
    const int row = i / kChunks, chunk = i % kChunks, col = first_col + chunk * kPiece<T>;
    if (first_row + row >= args.rows || col >= args.cols) continue;
    T* to = c + static_cast<int64_t>(first_row + row) * args.cols + col;
    const T* from = result.chunk(row, chunk);
    if constexpr (kAligned) {
      *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
    } else {
      for (int j = 0; j < kPiece<T> && col + j < args.cols; ++j) to[j] = from[j];
    }
  }
}

// Writes its transpose: c[first_col + j][first_row + i] = result[i][j]. Lanes run along j, so that they read
// neighbours; each gathers 16 bytes of a row of c.
template <bool kAligned, class T>
__device__ __forceinline__ void write_transposed(const BatchedProduct<T>& args, T* c,
                                                 SharedTile<T, ProductTiling<T>::kEdge> result, int first_row,
                                                 int first_col) {
  using Tiling = ProductTiling<T>;
  constexpr int kChunks = Tiling::kEdge / kPiece<T>;
  for (int i = static_cast<int>(threadIdx.x); i < Tiling::kEdge * kChunks; i += Tiling::kThreads) {
    const int j = i % Tiling::kEdge, row = i / Tiling::kEdge * kPiece<T>;
    if (first_col + j >= args.cols || first_row + row >= args.rows) continue;
    T* to = c + static_cast<int64_t>(first_col + j) * args.cols + first_row + row;
    if constexpr (kAligned) {
      Vector<T> piece;
#pragma unroll
      for (int e = 0; e < kPiece<T>; ++e) piece.value[e] = to_float(*result.at(row + e, j));
      store_vector(to, piece);
    } else {
      for (int e = 0; e < kPiece<T> && first_row + row + e < args.rows; ++e) to[e] = *result.at(row + e, j);
    }
  }
}

// Copies what lies below the diagonal of a tile above it.
template <class T>
__device__ __forceinline__ void mirror_tile(SharedTile<T, ProductTiling<T>::kEdge> result) {
  using Tiling = ProductTiling<T>;
  for (int i = static_cast<int>(threadIdx.x); i < Tiling::kEdge * Tiling::kEdge; i += Tiling::kThreads) {
    const int row = i / Tiling::kEdge, col = i % Tiling::kEdge;
    if (col > row) *result.at(row, col) = *result.at(col, row);
  }
}

// A warp's fragment, scaled and with its part of the addend (which `result` holds), into `result`.
template <class T, int kRowBlocks, int kColumnBlocks>
__device__ __forceinline__ void combine(SharedTile<T, ProductTiling<T>::kEdge> result, int row, int col,
                                        float alpha, float beta, bool has_addend,
                                        float (&c)[kRowBlocks][kColumnBlocks][4]) {
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

template <class T, Stored kStoredA, Stored kStoredB, bool kSymmetric, bool kAligned>
__global__ void __launch_bounds__(ProductTiling<T>::kThreads)
    polar_product_kernel(const BatchedProduct<T> args) {
  using Tiling = ProductTiling<T>;
  constexpr int kEdge = Tiling::kEdge, kDepth = Tiling::kDepth, kStages = Tiling::kStages;
  DEVICE_DYNAMIC_SHARED(shared);
  T* const stages = reinterpret_cast<T*>(shared);
  const int across = (args.cols + kEdge - 1) / kEdge, tile = static_cast<int>(blockIdx.x);
  int tile_row = tile / across, tile_col = tile % across;
  if constexpr (kSymmetric) {
    const TriangleTile triangle(tile);
    tile_row = triangle.row, tile_col = triangle.col;
  }
  const int first_row = tile_row * kEdge, first_col = tile_col * kEdge;
  const T* a = args.a + blockIdx.y * args.a_matrix;
  const T* b = args.b + blockIdx.y * args.b_matrix;
  T* c = args.c + blockIdx.y * args.c_matrix;

  const auto start_slice = [&](int slice) {
    T* to = stages + slice % kStages * 2 * Tiling::kOperand;
    const int k = slice * kDepth;
    copy_slice<kAligned, kStoredA>(to, a, args.a_stride, first_row, args.rows, k, args.depth);
    copy_slice<kAligned, kStoredB>(to + Tiling::kOperand, b, args.b_stride, first_col, args.cols, k,
                                   args.depth);
  };
  const int slices = (args.depth + kDepth - 1) / kDepth;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warp_row = warp / Tiling::kWarpsAcross * Tiling::kWarpRows;
  const int warp_col = warp % Tiling::kWarpsAcross * Tiling::kWarpCols;
  float product[Tiling::kWarpRows / 16][Tiling::kWarpCols / 8][4];
  clear(product);
  for (int slice = 0; slice < kStages - 1; ++slice) {
    if (slice < slices) start_slice(slice);
    cp_async_commit();
  }
  for (int slice = 0; slice < slices; ++slice) {
    cp_async_wait<kStages - 2>();
    __syncthreads();  // this slice is here, the one before it has been read
    if (slice + kStages - 1 < slices) start_slice(slice + kStages - 1);
    cp_async_commit();
    T* const from = stages + slice % kStages * 2 * Tiling::kOperand;
    multiply<kDepth, kStoredA, kStoredB>(product, OperandTile<T, kStoredA>{from}, warp_row,
                                         OperandTile<T, kStoredB>{from + Tiling::kOperand}, warp_col);
  }

  const SharedTile<T, kEdge> result{stages};
  cp_async_wait<0>();
  __syncthreads();  // the slices have been read
  const bool has_addend = args.addend != nullptr;
  if (has_addend) {
    const T* addend =
        args.addend + blockIdx.y * args.c_matrix + static_cast<int64_t>(first_row) * args.cols + first_col;
    copy_part<kAligned, kEdge, Tiling::kThreads>(result, addend, args.cols, args.rows - first_row,
                                                 args.cols - first_col);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
  }
  combine(result, warp_row, warp_col, args.alpha, args.beta, has_addend, product);
  __syncthreads();
  if constexpr (kSymmetric) {
    if (tile_row == tile_col) {
      mirror_tile(result);
      __syncthreads();
    } else {
      write_transposed<kAligned>(args, c, result, first_row, first_col);
    }
  }
  write_tile<kAligned>(args, c, result, first_row, first_col);
}

// --- launchers ---

template <class T, Stored kStoredA, Stored kStoredB, bool kSymmetric, bool kAligned>
cudaError_t launch_product(BatchedProduct<T> args, int64_t batch, cudaStream_t stream) {
  using Tiling = ProductTiling<T>;
  constexpr int64_t kMaximumBatch = 65535;  // of one launch: gridDim.y
  const auto kernel = &polar_product_kernel<T, kStoredA, kStoredB, kSymmetric, kAligned>;
  cudaError_t status = device_allow_dynamic_shared(kernel, Tiling::kSharedBytes);
  const int64_t down = divide_up(args.rows, Tiling::kEdge), across = divide_up(args.cols, Tiling::kEdge);
  const int64_t tiles = kSymmetric ? down * (down + 1) / 2 : down * across;
  for (int64_t first = 0; first < batch && status == cudaSuccess; first += kMaximumBatch) {
    const int64_t count = batch - first < kMaximumBatch ? batch - first : kMaximumBatch;
    const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(count));
    status = device_launch(LaunchConfig(grid, Tiling::kThreads, Tiling::kSharedBytes, stream), kernel, args);
    args.a += count * args.a_matrix;
    args.b += count * args.b_matrix;
    args.c += count * args.c_matrix;
    if (args.addend != nullptr) args.addend += count * args.c_matrix;
  }
  return status;
}

template <Stored kStoredA, Stored kStoredB, bool kSymmetric, class T>
cudaError_t launch_product(const BatchedProduct<T>& args, int64_t batch, cudaStream_t stream) {
  const bool aligned = aligned_for_vectors(args.a, args.a_stride) &&
                       aligned_for_vectors(args.b, args.b_stride) &&
                       aligned_for_vectors(args.addend, args.cols) && aligned_for_vectors(args.c, args.cols);
  return aligned ? launch_product<T, kStoredA, kStoredB, kSymmetric, true>(args, batch, stream)
                 : launch_product<T, kStoredA, kStoredB, kSymmetric, false>(args, batch, stream);
}

template <class T>
cudaError_t polar_gram(const T* x, T* a, int64_t batch, int64_t m, int64_t n, cudaStream_t stream) {
  const bool wide = m <= n;
  const int size = static_cast<int>(wide ? m : n), depth = static_cast<int>(wide ? n : m);
  const BatchedProduct<T> args{.a = x,
                               .b = x,
                               .addend = nullptr,
                               .c = a,
                               .rows = size,
                               .cols = size,
                               .depth = depth,
                               .a_stride = n,
                               .b_stride = n,
                               .a_matrix = m * n,
                               .b_matrix = m * n,
                               .c_matrix = int64_t{size} * size,
                               .alpha = 1.0f,
                               .beta = 0.0f};
  return wide ? launch_product<Stored::row_depth, Stored::row_depth, true>(args, batch, stream)
              : launch_product<Stored::depth_row, Stored::depth_row, true>(args, batch, stream);
}

template <class T>
cudaError_t polar_polynomial(const T* a, float c1, float c2, T* b, int64_t batch, int64_t size,
                             cudaStream_t stream) {
  const int edge = static_cast<int>(size);
  const BatchedProduct<T> args{.a = a,
                               .b = a,
                               .addend = a,
                               .c = b,
                               .rows = edge,
                               .cols = edge,
                               .depth = edge,
                               .a_stride = size,
                               .b_stride = size,
                               .a_matrix = size * size,
                               .b_matrix = size * size,
                               .c_matrix = size * size,
                               .alpha = c2,
                               .beta = c1};
  return launch_product<Stored::row_depth, Stored::row_depth, true>(args, batch, stream);
}

template <class T>
cudaError_t polar_apply(const T* x, float c0, const T* b, T* y, int64_t batch, int64_t m, int64_t n,
                        cudaStream_t stream) {
  const bool wide = m <= n;
  const int64_t size = wide ? m : n;
  const BatchedProduct<T> args{.a = wide ? b : x,
                               .b = wide ? x : b,
                               .addend = x,
                               .c = y,
                               .rows = static_cast<int>(m),
                               .cols = static_cast<int>(n),
                               .depth = static_cast<int>(size),
                               .a_stride = size,
                               .b_stride = n,
                               .a_matrix = wide ? size * size : m * n,
                               .b_matrix = wide ? m * n : size * size,
                               .c_matrix = m * n,
                               .alpha = 1.0f,
                               .beta = c0};
  return launch_product<Stored::row_depth, Stored::depth_row, false>(args, batch, stream);
}

template cudaError_t polar_gram(const float*, float*, int64_t, int64_t, int64_t, cudaStream_t);
template cudaError_t polar_gram(const bf16*, bf16*, int64_t, int64_t, int64_t, cudaStream_t);
template cudaError_t polar_polynomial(const float*, float, float, float*, int64_t, int64_t, cudaStream_t);
template cudaError_t polar_polynomial(const bf16*, float, float, bf16*, int64_t, int64_t, cudaStream_t);
template cudaError_t polar_apply(const float*, float, const float*, float*, int64_t, int64_t, int64_t,
                                 cudaStream_t);
template cudaError_t polar_apply(const bf16*, float, const bf16*, bf16*, int64_t, int64_t, int64_t,
                                 cudaStream_t);

}  // namespace polar::kernels
