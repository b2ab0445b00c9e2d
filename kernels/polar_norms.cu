// Inner products and Frobenius norms of a batch of matrices (contiguous, float or bf16), in f64 and in two
// stages: each block sums a chunk of one matrix, whose size the matrix's size alone decides, and one block a
// matrix sums the chunks in order.
//
// Floor: inner reads 2 s bytes an element of size s (`=` in f64, one number a matrix); normalize reads them
// twice and writes them once (in place).
#include "pieces.cuh"
#include "polar.h"
#include "reduce.cuh"

namespace polar::kernels {

constexpr int kPolarThreads = 256;
constexpr int64_t kMaximumChunks = kPolarThreads;  // of a matrix: a thread each in the second stage
constexpr int64_t kSmallestChunk = 16384;          // elements

// How a matrix of `count` elements is cut.
struct PolarChunks {
  int64_t count, size, chunks;
};
static PolarChunks chunks_of(int64_t count) {
  const int64_t pieces = divide_up(divide_up(count, kMaximumChunks), 8);
  const int64_t size = pieces * 8 > kSmallestChunk ? pieces * 8 : kSmallestChunk;  // whole 16-byte pieces
  return {count, size, divide_up(count, size)};
}

// Calls body(first, valid) for this thread's pieces of its block's chunk; block = matrix * chunks + chunk.
template <class T, class Body>
__device__ __forceinline__ void for_pieces(const PolarChunks& cut, int64_t chunk, const Body& body) {
  const int64_t end = min(cut.count, (chunk + 1) * cut.size);
  for (int64_t i = chunk * cut.size + threadIdx.x * int64_t{kPiece<T>}; i < end;
       i += kPolarThreads * kPiece<T>)
    body(i, end - i);
}

template <class T>
__global__ void __launch_bounds__(kPolarThreads)
    polar_inner_chunks_kernel(const T* x, const T* y, PolarChunks cut, bool aligned, double* partials) {
  DEVICE_SHARED(double, scratch, [kPolarThreads / kWarpSize]);
  const int64_t matrix = blockIdx.x / cut.chunks, chunk = blockIdx.x % cut.chunks, begin = matrix * cut.count;
  double total = 0.0;
  for_pieces<T>(cut, chunk, [&](int64_t i, int64_t valid) {
    for_piece(aligned && valid >= kPiece<T>, [&](auto whole) {
      Piece<decltype(whole)::value, T> x_piece, y_piece;
      x_piece.load(x + begin + i, valid);
      y_piece.load(y + begin + i, valid);
      float a[kPiece<T>], b[kPiece<T>];
      x_piece.get(a);
      y_piece.get(b);
#pragma unroll
      for (int j = 0; j < kPiece<T>; ++j) total += static_cast<double>(a[j]) * static_cast<double>(b[j]);
    });
  });
  total = block_sum<kPolarThreads>(total, scratch);
  if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

// The sum of a matrix's chunks, in every thread.
__device__ __forceinline__ double sum_of_chunks(const double* partials, int64_t matrix, int64_t chunks,
                                                double* scratch) {
  const double own = threadIdx.x < chunks ? partials[matrix * chunks + threadIdx.x] : 0.0;
  return block_sum<kPolarThreads>(own, scratch);
}

template <int kThreads>
__global__ void __launch_bounds__(kThreads)
    polar_inner_total_kernel(const double* partials, int64_t chunks, double* out) {
  DEVICE_SHARED(double, scratch, [kThreads / kWarpSize]);
  const double total = sum_of_chunks(partials, blockIdx.x, chunks, scratch);
  if (threadIdx.x == 0) out[blockIdx.x] = total;
}

template <class T>
__global__ void __launch_bounds__(kPolarThreads)
    polar_scale_kernel(T* x, PolarChunks cut, bool aligned, double safety, double eps,
                       const double* partials) {
  DEVICE_SHARED(double, scratch, [kPolarThreads / kWarpSize]);
  const int64_t matrix = blockIdx.x / cut.chunks, chunk = blockIdx.x % cut.chunks, begin = matrix * cut.count;
  const double norm = sqrt(sum_of_chunks(partials, matrix, cut.chunks, scratch));
  if (norm == 0.0) return;
  const float factor = static_cast<float>(1.0 / (safety * norm + eps));
  for_pieces<T>(cut, chunk, [&](int64_t i, int64_t valid) {
    float a[kPiece<T>];
    load_piece(x + begin + i, valid, aligned, a);
#pragma unroll
    for (int j = 0; j < kPiece<T>; ++j) a[j] *= factor;
    store_piece(x + begin + i, valid, aligned, a);
  });
}

template <class T>
__global__ void __launch_bounds__(kPolarThreads)
    polar_restore_kernel(T* x, PolarChunks cut, bool aligned, const double* before, const double* now) {
  DEVICE_SHARED(double, scratch, [kPolarThreads / kWarpSize]);
  const int64_t matrix = blockIdx.x / cut.chunks, chunk = blockIdx.x % cut.chunks, begin = matrix * cut.count;
  const double wanted = sum_of_chunks(before, matrix, cut.chunks, scratch);
  const double squares = sum_of_chunks(now, matrix, cut.chunks, scratch);
  if (squares == 0.0) return;
  const float factor = static_cast<float>(sqrt(wanted / squares));
  for_pieces<T>(cut, chunk, [&](int64_t i, int64_t valid) {
    float a[kPiece<T>];
    load_piece(x + begin + i, valid, aligned, a);
#pragma unroll
    for (int j = 0; j < kPiece<T>; ++j) a[j] *= factor;
    store_piece(x + begin + i, valid, aligned, a);
  });
}

int64_t polar_partials(int64_t batch, int64_t count) {
  return batch * chunks_of(count).chunks;
}

// Whether every matrix of a batch begins at a 16-byte border.
template <class T>
static bool matrices_aligned(const T* x, int64_t count) {
  return pieces_aligned(x, count);
}

template <class T>
static cudaError_t inner_chunks(const T* x, const T* y, int64_t batch, const PolarChunks& cut,
                                double* partials, cudaStream_t stream) {
  const bool aligned = matrices_aligned(x, cut.count) && matrices_aligned(y, cut.count);
  return device_launch(LaunchConfig(static_cast<unsigned>(batch * cut.chunks), kPolarThreads, 0, stream),
                       &polar_inner_chunks_kernel<T>, x, y, cut, aligned, partials);
}

template <class T>
cudaError_t polar_inner(const T* x, const T* y, int64_t batch, int64_t count, double* out, double* partials,
                        cudaStream_t stream) {
  const PolarChunks cut = chunks_of(count);
  const cudaError_t status = inner_chunks(x, y, batch, cut, partials, stream);
  if (status != cudaSuccess) return status;
  return device_launch(LaunchConfig(static_cast<unsigned>(batch), kPolarThreads, 0, stream),
                       &polar_inner_total_kernel<kPolarThreads>, partials, cut.chunks, out);
}

template <class T>
cudaError_t polar_normalize(T* x, int64_t batch, int64_t count, double safety, double eps, double* partials,
                            cudaStream_t stream) {
  const PolarChunks cut = chunks_of(count);
  const cudaError_t status = inner_chunks<T>(x, x, batch, cut, partials, stream);
  if (status != cudaSuccess) return status;
  return device_launch(LaunchConfig(static_cast<unsigned>(batch * cut.chunks), kPolarThreads, 0, stream),
                       &polar_scale_kernel<T>, x, cut, matrices_aligned(x, count), safety, eps, partials);
}

template <class T>
cudaError_t polar_squares(const T* x, int64_t batch, int64_t count, double* partials, cudaStream_t stream) {
  return inner_chunks(x, x, batch, chunks_of(count), partials, stream);
}

template <class T>
cudaError_t polar_restore_norm(T* x, int64_t batch, int64_t count, const double* before, double* partials,
                               cudaStream_t stream) {
  const PolarChunks cut = chunks_of(count);
  const cudaError_t status = inner_chunks<T>(x, x, batch, cut, partials, stream);
  if (status != cudaSuccess) return status;
  return device_launch(LaunchConfig(static_cast<unsigned>(batch * cut.chunks), kPolarThreads, 0, stream),
                       &polar_restore_kernel<T>, x, cut, matrices_aligned(x, count), before,
                       static_cast<const double*>(partials));
}

template cudaError_t polar_squares(const float*, int64_t, int64_t, double*, cudaStream_t);
template cudaError_t polar_squares(const bf16*, int64_t, int64_t, double*, cudaStream_t);
template cudaError_t polar_restore_norm(float*, int64_t, int64_t, const double*, double*, cudaStream_t);
template cudaError_t polar_restore_norm(bf16*, int64_t, int64_t, const double*, double*, cudaStream_t);
template cudaError_t polar_inner(const float*, const float*, int64_t, int64_t, double*, double*,
                                 cudaStream_t);
template cudaError_t polar_inner(const bf16*, const bf16*, int64_t, int64_t, double*, double*, cudaStream_t);
template cudaError_t polar_normalize(float*, int64_t, int64_t, double, double, double*, cudaStream_t);
template cudaError_t polar_normalize(bf16*, int64_t, int64_t, double, double, double*, cudaStream_t);

}  // namespace polar::kernels
