// RMSNorm of rows, a warp a row, fused with the residual addition before it. Arithmetic in float.
// Floor in bytes an element of size s: forward 2 s (input read, output written; =), with a residual 4 s
// (input and residual read, sum and output written); backward 4 s (doutput and input read, dinput read and
// written; +=). A row of up to kCached * 32 pieces (2048 bf16, 1024 f32) is read from memory once; the rest
// of a longer one is read twice forward, and once more backward for its part of dweight.
#include "norm.h"

#include "column_sums.cuh"
#include "reduce.cuh"

namespace polar::kernels {

constexpr int kNormWarps = 4;
constexpr int kCached = 8;  // pieces of a row that a lane keeps in registers

// The part of a row that the lanes of a warp keep: lane l has the pieces l, l + 32, ...
template <class T>
constexpr int kCachedColumns = kCached* kWarpSize* kPiece<T>;

__device__ __forceinline__ int64_t norm_warp() {
  return static_cast<int64_t>(blockIdx.x) * kNormWarps + threadIdx.x / kWarpSize;
}

// x of the norm, rounded where it is a sum.
template <class T>
__device__ __forceinline__ void load_norm_sum(const RmsNormForwardArguments<T>& args, int64_t row,
                                              int64_t col, bool aligned, float (&x)[kPiece<T>]) {
  load_piece(args.input + row * args.input_stride + col, args.cols - col, aligned, x);
  if (args.residual == nullptr) return;
  float residual[kPiece<T>];
  load_piece(args.residual + row * args.residual_stride + col, args.cols - col, aligned, residual);
#pragma unroll
  for (int i = 0; i < kPiece<T>; ++i) x[i] = to_float(from_float<T>(x[i] + residual[i]));
}
template <class T>
__device__ __forceinline__ void store_norm_sum(const RmsNormForwardArguments<T>& args, int64_t row,
                                               int64_t col, bool aligned, const float (&x)[kPiece<T>]) {
  if (args.residual != nullptr)
    store_piece(args.sum + row * args.sum_stride + col, args.cols - col, aligned, x);
}

template <class T>
__device__ __forceinline__ float sum_of_squares(const float (&x)[kPiece<T>]) {
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kPiece<T>; ++i) sum += x[i] * x[i];
  return sum;
}

template <class T>
__device__ __forceinline__ void write_normalized(const RmsNormForwardArguments<T>& args, int64_t row,
                                                 int64_t col, bool aligned, float rstd,
                                                 const float (&x)[kPiece<T>]) {
  float y[kPiece<T>];
  load_piece(args.weight + col, args.cols - col, aligned, y);
#pragma unroll
  for (int i = 0; i < kPiece<T>; ++i) y[i] *= x[i] * rstd;
  store_piece(args.output + row * args.output_stride + col, args.cols - col, aligned, y);
}

template <class T>
__global__ void __launch_bounds__(kNormWarps* kWarpSize)
    rms_norm_forward_kernel(RmsNormForwardArguments<T> args, bool aligned) {
  constexpr int64_t step = kWarpSize * kPiece<T>;
  const int64_t row = norm_warp(), first = threadIdx.x % kWarpSize * kPiece<T>;
  if (row >= args.rows) return;  // a whole warp
  float cache[kCached][kPiece<T>];
  float squares = 0.0f;
  // All loads before the first store, which might be to the same memory: so they are under way together.
#pragma unroll
  for (int k = 0; k < kCached; ++k)
    if (first + k * step < args.cols) load_norm_sum(args, row, first + k * step, aligned, cache[k]);
#pragma unroll
  for (int k = 0; k < kCached; ++k) {
    if (first + k * step >= args.cols) continue;
    squares += sum_of_squares<T>(cache[k]);
    store_norm_sum(args, row, first + k * step, aligned, cache[k]);
  }
  for (int64_t col = first + kCached * step; col < args.cols; col += step) {
    float x[kPiece<T>];
    load_norm_sum(args, row, col, aligned, x);
    squares += sum_of_squares<T>(x);
    store_norm_sum(args, row, col, aligned, x);
  }
  const float rstd = rsqrtf(warp_sum(squares) / static_cast<float>(args.cols) + args.eps);
  if (threadIdx.x % kWarpSize == 0) args.rstd[row] = rstd;
#pragma unroll
  for (int k = 0; k < kCached; ++k)
    if (first + k * step < args.cols) write_normalized(args, row, first + k * step, aligned, rstd, cache[k]);
  // Each lane reads back what it has written itself.
  const T* again = args.residual == nullptr ? args.input + row * args.input_stride
                                            : static_cast<const T*>(args.sum) + row * args.sum_stride;
  for (int64_t col = first + kCached * step; col < args.cols; col += step) {
    float x[kPiece<T>];
    load_piece(again + col, args.cols - col, aligned, x);
    write_normalized(args, row, col, aligned, rstd, x);
  }
}

template <class T>
cudaError_t rms_norm_forward(const RmsNormForwardArguments<T>& args, cudaStream_t stream) {
  const bool aligned = pieces_aligned(args.input, args.input_stride) &&
                       pieces_aligned(args.residual, args.residual_stride) &&
                       pieces_aligned(args.sum, args.sum_stride) &&
                       pieces_aligned(args.output, args.output_stride) && pieces_aligned(args.weight);
  return device_launch(LaunchConfig(static_cast<unsigned>(divide_up(args.rows, kNormWarps)),
                                    kNormWarps * kWarpSize, 0, stream),
                       &rms_norm_forward_kernel<T>, args, aligned);
}

// --- backward ---

// The operands of one piece, and the sum of g n over it but for rstd.
template <class T>
struct NormBackwardPiece {
  float x[kPiece<T>], dy[kPiece<T>], weight[kPiece<T>];
  __device__ __forceinline__ NormBackwardPiece(const RmsNormBackwardArguments<T>& args, int64_t row,
                                               int64_t col, bool aligned) {
    load_piece(args.input + row * args.input_stride + col, args.cols - col, aligned, x);
    load_piece(args.doutput + row * args.doutput_stride + col, args.cols - col, aligned, dy);
    load_piece(args.weight + col, args.cols - col, aligned, weight);
  }
  __device__ __forceinline__ float inner() const {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < kPiece<T>; ++i) sum += weight[i] * dy[i] * x[i];
    return sum;
  }
};

template <class T>
__device__ __forceinline__ void add_norm_dinput(const RmsNormBackwardArguments<T>& args, int64_t row,
                                                int64_t col, bool aligned, float rstd, float mean,
                                                const NormBackwardPiece<T>& piece) {
  T* to = args.dinput + row * args.dinput_stride + col;
  float dx[kPiece<T>];
  load_piece(static_cast<const T*>(to), args.cols - col, aligned, dx);
#pragma unroll
  for (int i = 0; i < kPiece<T>; ++i)
    dx[i] += rstd * (piece.weight[i] * piece.dy[i] - piece.x[i] * rstd * mean);
  store_piece(to, args.cols - col, aligned, dx);
}

// Writes dweight of the block's rows, the first kCachedColumns of it: the warps' sums in turn.
template <class T>
__device__ __forceinline__ void write_norm_partials(const RmsNormBackwardArguments<T>& args,
                                                    const float (&dweight)[kCached][kPiece<T>]) {
  DEVICE_SHARED(float, sums, [kCachedColumns<T>]);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize,
            lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (int turn = 0; turn < kNormWarps; ++turn) {
    if (warp == turn) {
#pragma unroll
      for (int k = 0; k < kCached; ++k)
#pragma unroll
        for (int i = 0; i < kPiece<T>; ++i) {
          float& sum = sums[(k * kWarpSize + lane) * kPiece<T> + i];
          sum = turn == 0 ? dweight[k][i] : sum + dweight[k][i];
        }
    }
    __syncthreads();
  }
  float* to = args.partials + blockIdx.x * args.cols;
  for (int64_t col = threadIdx.x; col < args.cols && col < kCachedColumns<T>; col += kNormWarps * kWarpSize)
    to[col] = sums[col];
}

template <class T>
__global__ void __launch_bounds__(kNormWarps* kWarpSize)
    rms_norm_backward_kernel(RmsNormBackwardArguments<T> args, bool aligned) {
  constexpr int64_t step = kWarpSize * kPiece<T>;
  const int64_t first = threadIdx.x % kWarpSize * kPiece<T>;
  float dweight[kCached][kPiece<T>] = {};
  for (int64_t row = norm_warp(); row < args.rows; row += static_cast<int64_t>(gridDim.x) * kNormWarps) {
    const float rstd = args.rstd[row];
    float inner = 0.0f;
    for (int64_t col = first; col < args.cols; col += step)
      inner += NormBackwardPiece<T>(args, row, col, aligned).inner();
    const float mean = warp_sum(inner) * rstd / static_cast<float>(args.cols);
    // The second reading of the row finds it in the L1 cache.
#pragma unroll
    for (int k = 0; k < kCached; ++k) {
      if (first + k * step >= args.cols) continue;
      const NormBackwardPiece<T> piece(args, row, first + k * step, aligned);
      add_norm_dinput(args, row, first + k * step, aligned, rstd, mean, piece);
#pragma unroll
      for (int i = 0; i < kPiece<T>; ++i) dweight[k][i] += piece.dy[i] * (piece.x[i] * rstd);
    }
    for (int64_t col = first + kCached * step; col < args.cols; col += step)
      add_norm_dinput(args, row, col, aligned, rstd, mean, NormBackwardPiece<T>(args, row, col, aligned));
  }
  write_norm_partials(args, dweight);
}

// The terms of dweight, from column `first` on.
template <class T>
struct NormWeightTerm {
  RmsNormBackwardArguments<T> args;
  int64_t first;
  __device__ __forceinline__ float operator()(int64_t row, int64_t col) const {
    const float dy = to_float(args.doutput[row * args.doutput_stride + first + col]);
    const float x = to_float(args.input[row * args.input_stride + first + col]);
    return dy * (x * args.rstd[row]);
  }
};

template <class T>
cudaError_t rms_norm_backward(const RmsNormBackwardArguments<T>& args, cudaStream_t stream) {
  if (args.rows == 0 || args.cols == 0) return cudaSuccess;
  const bool aligned = pieces_aligned(args.input, args.input_stride) && pieces_aligned(args.weight) &&
                       pieces_aligned(args.doutput, args.doutput_stride) &&
                       pieces_aligned(args.dinput, args.dinput_stride);
  const int64_t blocks = row_blocks(args.rows);
  cudaError_t status =
      device_launch(LaunchConfig(static_cast<unsigned>(blocks), kNormWarps * kWarpSize, 0, stream),
                    &rms_norm_backward_kernel<T>, args, aligned);
  if (status == cudaSuccess && args.cols > kCachedColumns<T>)
    status = sum_columns<false>(NormWeightTerm<T>{args, kCachedColumns<T>}, args.rows,
                                args.cols - kCachedColumns<T>, blocks, args.partials + kCachedColumns<T>,
                                args.cols, stream);
  if (status != cudaSuccess) return status;
  return add_partials(args.partials, blocks, args.cols, args.dweight, stream);
}

int64_t rms_norm_backward_partials(int64_t rows, int64_t cols) {
  return row_blocks(rows) * cols;
}

#define INSTANTIATE(T)                                                                       \
  template cudaError_t rms_norm_forward<T>(const RmsNormForwardArguments<T>&, cudaStream_t); \
  template cudaError_t rms_norm_backward<T>(const RmsNormBackwardArguments<T>&, cudaStream_t);
INSTANTIATE(float)
INSTANTIATE(bf16)
#undef INSTANTIATE

}  // namespace polar::kernels
