// RMSNorm of rows, a warp a row, fused with the residual addition before it. Arithmetic in float.
// Floor in bytes an element of size s: forward 2 s (input read, output written; =), with a residual 4 s
// (input and residual read, sum and output written); backward 4 s (doutput and input read, dinput read and
// written; +=). A row of up to kCached * 32 pieces (2048 bf16, 1024 f32) is read from memory once; the rest
// of a longer one is read twice forward, and once more backward for its part of dweight. Rows that are not
// whole pieces of 16 bytes (`whole` false) are read element by element, in the same order of sums.
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

// The operands of one piece of a row, and x of the norm, which is rounded where it is a sum.
template <class T, bool whole>
struct NormForwardPiece {
  Piece<whole, T> input, residual;
  __device__ __forceinline__ void load(const RmsNormForwardArguments<T>& args, int64_t row, int64_t col) {
    input.load(args.input + row * args.input_stride + col, args.cols - col);
    if (args.residual != nullptr)
      residual.load(args.residual + row * args.residual_stride + col, args.cols - col);
  }
  __device__ __forceinline__ void get(const RmsNormForwardArguments<T>& args, float (&x)[kPiece<T>]) const {
    input.get(x);
    if (args.residual == nullptr) return;
    float r[kPiece<T>];
    residual.get(r);
#pragma unroll
    for (int i = 0; i < kPiece<T>; ++i) x[i] = to_float(from_float<T>(x[i] + r[i]));
  }
};

// Writes the sum, if it is one; adds its squares in turn.
template <bool whole, class T>
__device__ __forceinline__ void finish_norm_sum(const RmsNormForwardArguments<T>& args, int64_t row,
                                                int64_t col, const float (&x)[kPiece<T>], float& squares) {
  if (args.residual != nullptr)
    store_piece<whole>(args.sum + row * args.sum_stride + col, args.cols - col, x);
#pragma unroll
  for (int i = 0; i < kPiece<T>; ++i) squares += x[i] * x[i];
}

template <bool whole, class T>
__device__ __forceinline__ void write_normalized(const RmsNormForwardArguments<T>& args, int64_t row,
                                                 int64_t col, float rstd, const float (&x)[kPiece<T>],
                                                 const Piece<whole, T>& weight) {
  float y[kPiece<T>];
  weight.get(y);
#pragma unroll
  for (int i = 0; i < kPiece<T>; ++i) y[i] *= x[i] * rstd;
  store_piece<whole>(args.output + row * args.output_stride + col, args.cols - col, y);
}

template <class T, bool whole>
__global__ void __launch_bounds__(kNormWarps* kWarpSize)
    rms_norm_forward_kernel(RmsNormForwardArguments<T> args) {
  constexpr int64_t step = kWarpSize * kPiece<T>;
  const int64_t row = norm_warp(), first = threadIdx.x % kWarpSize * kPiece<T>;
  if (row >= args.rows) return;  // a whole warp
  float x[kCached][kPiece<T>];
  float squares = 0.0f;
  {
    NormForwardPiece<T, whole> pieces[kCached];
#pragma unroll
    for (int k = 0; k < kCached; ++k)
      if (first + k * step < args.cols) pieces[k].load(args, row, first + k * step);
#pragma unroll
    for (int k = 0; k < kCached; ++k)
      if (first + k * step < args.cols) {
        pieces[k].get(args, x[k]);
        finish_norm_sum<whole>(args, row, first + k * step, x[k], squares);
      }
  }
  for (int64_t col = first + kCached * step; col < args.cols; col += step) {
    NormForwardPiece<T, whole> piece;
    float rest[kPiece<T>];
    piece.load(args, row, col);
    piece.get(args, rest);
    finish_norm_sum<whole>(args, row, col, rest, squares);
  }
  const float rstd = rsqrtf(warp_sum(squares) / static_cast<float>(args.cols) + args.eps);
  if (threadIdx.x % kWarpSize == 0) args.rstd[row] = rstd;
#pragma unroll
  for (int k = 0; k < kCached; ++k)
    if (first + k * step < args.cols) {
      Piece<whole, T> weight;
      weight.load(args.weight + first + k * step, args.cols - first - k * step);
      write_normalized(args, row, first + k * step, rstd, x[k], weight);
    }
  // Each lane reads back what it has written itself.
  const T* again = args.residual == nullptr ? args.input + row * args.input_stride
                                            : static_cast<const T*>(args.sum) + row * args.sum_stride;
  for (int64_t col = first + kCached * step; col < args.cols; col += step) {
    Piece<whole, T> weight;
    float rest[kPiece<T>];
    weight.load(args.weight + col, args.cols - col);
    load_piece<whole>(again + col, args.cols - col, rest);
    write_normalized(args, row, col, rstd, rest, weight);
  }
}

// Are rows whole pieces?
inline bool norm_rows_whole(int64_t cols, int64_t piece, bool aligned) {
  return aligned && cols % piece == 0;
}

template <class T>
cudaError_t rms_norm_forward(const RmsNormForwardArguments<T>& args, cudaStream_t stream) {
  const bool aligned = pieces_aligned(args.input, args.input_stride) &&
                       pieces_aligned(args.residual, args.residual_stride) &&
                       pieces_aligned(args.sum, args.sum_stride) &&
                       pieces_aligned(args.output, args.output_stride) && pieces_aligned(args.weight);
  const LaunchConfig launch(static_cast<unsigned>(divide_up(args.rows, kNormWarps)), kNormWarps * kWarpSize,
                            0, stream);
  return norm_rows_whole(args.cols, kPiece<T>, aligned)
             ? device_launch(launch, &rms_norm_forward_kernel<T, true>, args)
             : device_launch(launch, &rms_norm_forward_kernel<T, false>, args);
}

// --- backward ---

// The operands of one piece, and the sum of g n over it but for rstd.
template <class T, bool whole>
struct NormBackwardPiece {
  Piece<whole, T> x, dy, weight;
  __device__ __forceinline__ void load(const RmsNormBackwardArguments<T>& args, int64_t row, int64_t col) {
    x.load(args.input + row * args.input_stride + col, args.cols - col);
    dy.load(args.doutput + row * args.doutput_stride + col, args.cols - col);
    weight.load(args.weight + col, args.cols - col);
  }
  __device__ __forceinline__ void add_inner(float& sum) const {
    float a[kPiece<T>], b[kPiece<T>], c[kPiece<T>];
    x.get(a);
    dy.get(b);
    weight.get(c);
#pragma unroll
    for (int i = 0; i < kPiece<T>; ++i) sum += c[i] * b[i] * a[i];
  }
};

// dinput = `before` + the gradient, one piece; the terms of dweight are added to dweight.
template <class T, bool whole>
__device__ __forceinline__ void norm_backward_piece(const RmsNormBackwardArguments<T>& args, int64_t row,
                                                    int64_t col, float rstd, float mean,
                                                    const Piece<whole, T>& before,
                                                    float (&dweight)[kPiece<T>]) {
  NormBackwardPiece<T, whole> piece;
  piece.load(args, row, col);
  float x[kPiece<T>], dy[kPiece<T>], weight[kPiece<T>], dx[kPiece<T>];
  piece.x.get(x);
  piece.dy.get(dy);
  piece.weight.get(weight);
  before.get(dx);
#pragma unroll
  for (int i = 0; i < kPiece<T>; ++i) {
    const float normalized = x[i] * rstd;
    dx[i] += rstd * (weight[i] * dy[i] - normalized * mean);
    dweight[i] += dy[i] * normalized;
  }
  store_piece<whole>(args.dinput + row * args.dinput_stride + col, args.cols - col, dx);
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

template <class T, bool whole>
__global__ void __launch_bounds__(kNormWarps* kWarpSize, whole ? 3 : 1)
    rms_norm_backward_kernel(RmsNormBackwardArguments<T> args) {
  constexpr int64_t step = kWarpSize * kPiece<T>;
  const int64_t first = threadIdx.x % kWarpSize * kPiece<T>;
  float dweight[kCached][kPiece<T>] = {};
  for (int64_t row = norm_warp(); row < args.rows; row += static_cast<int64_t>(gridDim.x) * kNormWarps) {
    const float rstd = args.rstd[row];
    const T* dinput = args.dinput + row * args.dinput_stride;
    Piece<whole, T> before[kCached];  // on its way while the row is read for the first time
#pragma unroll
    for (int k = 0; k < kCached; ++k)
      if (first + k * step < args.cols)
        before[k].load(dinput + first + k * step, args.cols - first - k * step);
    float inner = 0.0f;
#pragma unroll 4
    for (int64_t col = first; col < args.cols; col += step) {
      NormBackwardPiece<T, whole> piece;
      piece.load(args, row, col);
      piece.add_inner(inner);
    }
    const float mean = warp_sum(inner) * rstd / static_cast<float>(args.cols);
    // The second reading of the row finds it in the L1 cache.
#pragma unroll
    for (int k = 0; k < kCached; ++k)
      if (first + k * step < args.cols)
        norm_backward_piece<T, whole>(args, row, first + k * step, rstd, mean, before[k], dweight[k]);
    float elsewhere[kPiece<T>] = {};  // NormWeightTerm's part
    for (int64_t col = first + kCached * step; col < args.cols; col += step) {
      Piece<whole, T> rest;
      rest.load(dinput + col, args.cols - col);
      norm_backward_piece<T, whole>(args, row, col, rstd, mean, rest, elsewhere);
    }
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
  const LaunchConfig launch(static_cast<unsigned>(blocks), kNormWarps * kWarpSize, 0, stream);
  cudaError_t status = norm_rows_whole(args.cols, kPiece<T>, aligned)
                           ? device_launch(launch, &rms_norm_backward_kernel<T, true>, args)
                           : device_launch(launch, &rms_norm_backward_kernel<T, false>, args);
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
