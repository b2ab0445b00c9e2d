// What is done around the factorizations of the polar oracles, float, `=`, for a batch of matrices:
//   stack      [top x | bottom I] or with x^T         4 (m n + s (l + s)) bytes, s = min(m, n), l = max(m, n)
//   transpose  x^T                                    8 m n bytes
//   shift      scale a + shift I, in place            8 s^2 bytes
//   spectral   V^T diag(f) V from f64 rows of V       s^3 f64 FLOPs (half of the square is computed)
// These are the floors. Transposes pass through a tile of shared memory, so that reads and writes run along
// rows. The factorizations themselves take many times as long.
#include "pieces.cuh"
#include "polar_solve.h"

namespace polar::kernels {

constexpr int kStackEdge = 32, kStackRows = 8;  // a tile, and its rows that a block takes at a time
constexpr int kStackThreads = kStackEdge * kStackRows;

// A matrix (rows, cols) of `to` from one of `from`: its first `taken` columns are those of `top` times the
// matrix or its transpose, the others those of `bottom` times the identity.
struct PolarStack {
  const float* from;
  float* to;
  int64_t rows, taken, cols;
  float top, bottom;
};

template <bool kTransposed>
__global__ void __launch_bounds__(kStackThreads) polar_stack_kernel(const PolarStack args) {
  DEVICE_SHARED(float, tile, [kStackEdge][kStackEdge + 1]);
  const int lane = static_cast<int>(threadIdx.x) % kStackEdge;
  const int first = static_cast<int>(threadIdx.x) / kStackEdge;
  const int64_t row = int64_t{blockIdx.y} * kStackEdge, col = int64_t{blockIdx.x} * kStackEdge;
  const float* from = args.from + blockIdx.z * args.rows * args.taken;
  float* to = args.to + blockIdx.z * args.rows * args.cols;
  if constexpr (kTransposed) {
    for (int i = first; i < kStackEdge; i += kStackRows)
      if (col + i < args.taken && row + lane < args.rows)
        tile[i][lane] = from[(col + i) * args.rows + row + lane];
    __syncthreads();
  }
  for (int i = first; i < kStackEdge; i += kStackRows) {
    const int64_t r = row + i, c = col + lane;
    if (r >= args.rows || c >= args.cols) continue;
    float value = c - args.taken == r ? args.bottom : 0.0f;
    if (c < args.taken) value = args.top * (kTransposed ? tile[lane][i] : from[r * args.taken + c]);
    to[r * args.cols + c] = value;
  }
}

constexpr int kShiftThreads = 256;

__global__ void __launch_bounds__(kShiftThreads)
    polar_shift_kernel(float* a, int64_t size, float scale, float shift) {
  const int64_t col = int64_t{blockIdx.y} * kShiftThreads + threadIdx.x, row = blockIdx.x;
  if (col >= size) return;
  float* element = a + (blockIdx.z * size + row) * size + col;
  const float scaled = scale * *element;
  *element = row == col ? scaled + shift : scaled;
}

// A block computes a tile of the result, a thread 4 x 4 elements of it, from slices of 16 vectors.
constexpr int kSpectralEdge = 64, kSpectralDepth = 16, kSpectralOwn = 4;
constexpr int kSpectralAcross = kSpectralEdge / kSpectralOwn,
              kSpectralThreads = kSpectralAcross * kSpectralAcross;

// Tile numbers of the lower triangle, row by row.
struct SpectralTile {
  int64_t row, col;
  static __device__ __forceinline__ SpectralTile of(int64_t number) {
    auto row = static_cast<int64_t>((sqrt(8.0 * static_cast<double>(number) + 1.0) - 1.0) * 0.5);
    while (row * (row + 1) / 2 > number) --row;  // the root was rounded
    while ((row + 1) * (row + 2) / 2 <= number) ++row;
    return {row * kSpectralEdge, (number - row * (row + 1) / 2) * kSpectralEdge};
  }
};

__global__ void __launch_bounds__(kSpectralThreads, 2)
    polar_spectral_kernel(const double* vectors, const double* factors, int64_t size, float* p) {
  DEVICE_SHARED(double, left, [kSpectralDepth][kSpectralEdge]);
  DEVICE_SHARED(double, right, [kSpectralDepth][kSpectralEdge]);
  const SpectralTile tile = SpectralTile::of(blockIdx.x);
  const int thread = static_cast<int>(threadIdx.x);
  const int down = thread / kSpectralAcross, across = thread % kSpectralAcross;
  const double* v = vectors + blockIdx.y * size * size;
  double sum[kSpectralOwn][kSpectralOwn] = {};
  for (int64_t begin = 0; begin < size; begin += kSpectralDepth) {
    for (int i = thread; i < kSpectralDepth * kSpectralEdge; i += kSpectralThreads) {
      const int depth = i / kSpectralEdge, at = i % kSpectralEdge;
      const int64_t k = begin + depth;
      const bool l = k < size && tile.row + at < size, r = k < size && tile.col + at < size;
      left[depth][at] = l ? factors[blockIdx.y * size + k] * v[k * size + tile.row + at] : 0.0;
      right[depth][at] = r ? v[k * size + tile.col + at] : 0.0;
    }
    __syncthreads();
    for (int depth = 0; depth < kSpectralDepth; ++depth) {
#pragma unroll
      for (int i = 0; i < kSpectralOwn; ++i)
#pragma unroll
        for (int j = 0; j < kSpectralOwn; ++j)
          sum[i][j] += left[depth][down + i * kSpectralAcross] * right[depth][across + j * kSpectralAcross];
    }
    __syncthreads();  // the slice has been read
  }
  float* to = p + blockIdx.y * size * size;
#pragma unroll
  for (int i = 0; i < kSpectralOwn; ++i)
#pragma unroll
    for (int j = 0; j < kSpectralOwn; ++j) {
      const int64_t row = tile.row + down + i * kSpectralAcross,
                    col = tile.col + across + j * kSpectralAcross;
      if (row >= size || col > row) continue;  // of a tile on the diagonal, half
      const auto value = static_cast<float>(sum[i][j]);
      to[row * size + col] = value;
      to[col * size + row] = value;
    }
}

// --- launchers ---

static cudaError_t launch_stack(bool transposed, const PolarStack& args, int64_t batch, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(divide_up(args.cols, kStackEdge)),
                  static_cast<unsigned>(divide_up(args.rows, kStackEdge)), static_cast<unsigned>(batch));
  return device_launch(LaunchConfig(grid, kStackThreads, 0, stream),
                       transposed ? &polar_stack_kernel<true> : &polar_stack_kernel<false>, args);
}

cudaError_t polar_stack(const float* x, int64_t batch, int64_t m, int64_t n, float top, float bottom,
                        float* stacked, cudaStream_t stream) {
  const bool tall = m >= n;
  const int64_t small = tall ? n : m, large = tall ? m : n;
  return launch_stack(tall, {x, stacked, small, large, large + small, top, bottom}, batch, stream);
}

cudaError_t polar_transpose(const float* x, int64_t batch, int64_t m, int64_t n, float* to,
                            cudaStream_t stream) {
  return launch_stack(true, {x, to, n, m, m, 1.0f, 0.0f}, batch, stream);
}

cudaError_t polar_shift(float* a, int64_t batch, int64_t size, float scale, float shift,
                        cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(size), static_cast<unsigned>(divide_up(size, kShiftThreads)),
                  static_cast<unsigned>(batch));
  return device_launch(LaunchConfig(grid, kShiftThreads, 0, stream), &polar_shift_kernel, a, size, scale,
                       shift);
}

cudaError_t polar_spectral(const double* vectors, const double* factors, int64_t batch, int64_t size,
                           float* p, cudaStream_t stream) {
  const int64_t edge = divide_up(size, kSpectralEdge);
  const dim3 grid(static_cast<unsigned>(edge * (edge + 1) / 2), static_cast<unsigned>(batch));
  return device_launch(LaunchConfig(grid, kSpectralThreads, 0, stream), &polar_spectral_kernel, vectors,
                       factors, size, p);
}

}  // namespace polar::kernels
