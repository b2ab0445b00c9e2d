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
#include "polar.h"
#include "polar_tile.cuh"

namespace polar::kernels {

template <class T>
struct ProductTiling {
  static constexpr int kEdge = kPolarEdge;
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

// The slice from `first` (row or column of the result) and `k` of one operand with `count` rows or columns.
template <bool kAligned, Stored kStored, class T>
__device__ __forceinline__ void copy_slice(T* to, const T* from, int64_t stride, int first, int count, int k,
                                           int depth) {
  using Tiling = ProductTiling<T>;
  const OperandTile<T, kStored> tile{to};
  const int thread = static_cast<int>(threadIdx.x);
  if constexpr (kStored == Stored::row_depth)
    copy_part<kAligned, Tiling::kEdge, Tiling::kThreads>(tile, from + first * stride + k, stride,
                                                         count - first, depth - k, thread);
  else
    copy_part<kAligned, Tiling::kDepth, Tiling::kThreads>(tile, from + k * stride + first, stride, depth - k,
                                                          count - first, thread);
}

template <class T, Stored kStoredA, Stored kStoredB, bool kSymmetric, bool kAligned>
__global__ void __launch_bounds__(ProductTiling<T>::kThreads)
    polar_product_kernel(const BatchedProduct<T> args) {
  using Tiling = ProductTiling<T>;
  constexpr int kDepth = Tiling::kDepth, kStages = Tiling::kStages;
  DEVICE_DYNAMIC_SHARED(shared);
  T* const stages = reinterpret_cast<T*>(shared);
  const auto part = ProductPart<T>::template of<kSymmetric>(args);

  const auto start_slice = [&](int slice) {
    T* to = stages + slice % kStages * 2 * Tiling::kOperand;
    const int k = slice * kDepth;
    copy_slice<kAligned, kStoredA>(to, part.a, args.a_stride, part.first_row, args.rows, k, args.depth);
    copy_slice<kAligned, kStoredB>(to + Tiling::kOperand, part.b, args.b_stride, part.first_col, args.cols, k,
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

  const ResultTile<T> result{stages};
  const int thread = static_cast<int>(threadIdx.x);
  cp_async_wait<0>();
  __syncthreads();  // the slices have been read
  if (part.addend != nullptr) {
    copy_addend<kAligned, Tiling::kThreads>(args, part, result, thread);
    __syncthreads();
  }
  combine(result, warp_row, warp_col, args.alpha, args.beta, part.addend != nullptr, product);
  finish_tile<kSymmetric, kAligned, Tiling::kThreads>(args, part, result, thread, [] { __syncthreads(); });
}

// --- launchers ---

template <class T, Stored kStoredA, Stored kStoredB, bool kSymmetric, bool kAligned>
cudaError_t launch_portable(const BatchedProduct<T>& args, int64_t batch, cudaStream_t stream) {
  using Tiling = ProductTiling<T>;
  const auto kernel = &polar_product_kernel<T, kStoredA, kStoredB, kSymmetric, kAligned>;
  const cudaError_t status = device_allow_dynamic_shared(kernel, Tiling::kSharedBytes);
  if (status != cudaSuccess) return status;
  const LaunchConfig launch(product_grid<kSymmetric>(args, batch), Tiling::kThreads, Tiling::kSharedBytes,
                            stream);
  return device_launch(launch, kernel, args);
}

template <PolarProduct kKind, class T>
cudaError_t launch_product(const BatchedProduct<T>& args, int64_t batch, cudaStream_t stream) {
  constexpr Stored kStoredA =
      kKind == PolarProduct::symmetric_by_column ? Stored::depth_row : Stored::row_depth;
  constexpr Stored kStoredB = kKind == PolarProduct::symmetric_by_row ? Stored::row_depth : Stored::depth_row;
  constexpr bool kSymmetric = kKind != PolarProduct::general;
  const bool aligned = aligned_for_vectors(args.a, args.a_stride) &&
                       aligned_for_vectors(args.b, args.b_stride) &&
                       aligned_for_vectors(args.addend, args.cols) && aligned_for_vectors(args.c, args.cols);
  if constexpr (sizeof(T) == sizeof(bf16))
    if (aligned && has_polar_products_sm90()) return polar_product_sm90(kKind, args, batch, stream);
  return aligned ? launch_portable<T, kStoredA, kStoredB, kSymmetric, true>(args, batch, stream)
                 : launch_portable<T, kStoredA, kStoredB, kSymmetric, false>(args, batch, stream);
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
  return wide ? launch_product<PolarProduct::symmetric_by_row>(args, batch, stream)
              : launch_product<PolarProduct::symmetric_by_column>(args, batch, stream);
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
  return launch_product<PolarProduct::symmetric_by_row>(args, batch, stream);
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
  return launch_product<PolarProduct::general>(args, batch, stream);
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
