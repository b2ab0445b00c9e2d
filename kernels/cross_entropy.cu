// Softmax cross-entropy of rows of logits with optional soft-cap and z-loss: losses, lse (`=`, float), and
// the gradient in place of the logits (T = float or bf16, rows of V with a stride). One block a row, two
// passes: the first gathers maximum and sum of every thread's columns, the second turns logits into
// gradients.
//
// Floor: V * sizeof(T) bytes a row read and, with the gradient, as many written; the second reading comes
// from the L2 cache (a row of 151,936 bf16 is 297 KiB).
#include "cross_entropy.h"

#include "pieces.cuh"
#include "reduce.cuh"

namespace polar::kernels {

constexpr float kLogitLog2E = 1.44269504088896341f;
constexpr float kLowest = -3.402823466e38f;

// exp(x - maximum) for x <= maximum. The difference is taken before it is scaled: it is exact where it
// counts.
__device__ __forceinline__ float exp_below(float x, float maximum) {
  return ex2((x - maximum) * kLogitLog2E);
}

// What a thread knows of its columns: the greatest logit and the sum of exp(logit - greatest).
struct LogSum {
  float maximum = kLowest, sum = 0.0f;

  template <int kCount>
  __device__ __forceinline__ void add(const float (&logits)[kCount]) {
    float greatest = logits[0];
#pragma unroll
    for (int i = 1; i < kCount; ++i) greatest = fmaxf(greatest, logits[i]);
    if (greatest > maximum) {
      sum *= exp_below(maximum, greatest);
      maximum = greatest;
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) sum += exp_below(logits[i], maximum);
  }
};

template <bool kCapped>
__device__ __forceinline__ float capped(float logit, float softcap) {
  return kCapped ? softcap * tanhf(logit / softcap) : logit;
}

// What turns the logits of one row into gradients.
struct RowGradient {
  float maximum, factor;  // factor = gradient_scale (1 + 2 z_loss lse) / sum
  float gradient_scale, softcap;
  int target;

  template <bool kCapped>
  __device__ __forceinline__ float of(float logit, int column) const {
    const float y = capped<kCapped>(logit, softcap);
    float gradient = exp_below(y, maximum) * factor;
    if (column == target) gradient -= gradient_scale;
    if (!kCapped) return gradient;
    const float ratio = y / softcap;
    return gradient * (1.0f - ratio * ratio);
  }
};

// Calls body(i, values) for this thread's whole pieces i of a row; kAhead of them are on their way at a time.
template <int kThreads, int kAhead, class T, class Body>
__device__ __forceinline__ void for_pieces_of_row(const T* row, int whole, const Body& body) {
  const auto take = [&](int i, const Piece<true, T>& piece) {
    float values[kPiece<T>];
    piece.get(values);
    body(i, values);
  };
  int i = static_cast<int>(threadIdx.x);
  for (; i + (kAhead - 1) * kThreads < whole; i += kAhead * kThreads) {
    Piece<true, T> pieces[kAhead];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) pieces[a].load(row + (i + a * kThreads) * kPiece<T>, kPiece<T>);
#pragma unroll
    for (int a = 0; a < kAhead; ++a) take(i + a * kThreads, pieces[a]);
  }
  for (; i < whole; i += kThreads) {
    Piece<true, T> piece;
    piece.load(row + i * kPiece<T>, kPiece<T>);
    take(i, piece);
  }
}

template <class T, bool kCapped, int kThreads>
__device__ __forceinline__ LogSum log_sum_of_row(const T* logits, int vocabulary, float softcap,
                                                 float* scratch) {
  const int whole = vocabulary / kPiece<T>, last = whole * kPiece<T> + static_cast<int>(threadIdx.x);
  LogSum own;
  for_pieces_of_row<kThreads, 4>(logits, whole, [&](int, float(&values)[kPiece<T>]) {
#pragma unroll
    for (float& logit : values) logit = capped<kCapped>(logit, softcap);
    own.add(values);
  });
  if (last < vocabulary) {
    const float value[1] = {capped<kCapped>(to_float(logits[last]), softcap)};
    own.add(value);
  }
  LogSum row;
  row.maximum = block_max<kThreads>(own.maximum, scratch);
  row.sum = block_sum<kThreads>(own.sum * exp_below(own.maximum, row.maximum), scratch);
  return row;
}

template <class T, bool kCapped, int kThreads>
__device__ __forceinline__ void write_gradient_of_row(T* logits, int vocabulary, const RowGradient& row) {
  const int whole = vocabulary / kPiece<T>, last = whole * kPiece<T> + static_cast<int>(threadIdx.x);
  for_pieces_of_row<kThreads, 2>(logits, whole, [&](int i, float(&values)[kPiece<T>]) {
#pragma unroll
    for (int j = 0; j < kPiece<T>; ++j) values[j] = row.of<kCapped>(values[j], i * kPiece<T> + j);
    store_piece<true>(logits + i * kPiece<T>, kPiece<T>, values);
  });
  if (last < vocabulary) logits[last] = from_float<T>(row.of<kCapped>(to_float(logits[last]), last));
}

template <class T, int kThreads>
__device__ __forceinline__ void clear_row(T* logits, int vocabulary) {
  const float zeros[kPiece<T>] = {};
  for (int i = static_cast<int>(threadIdx.x) * kPiece<T>; i < vocabulary; i += kThreads * kPiece<T>)
    store_piece(logits + i, vocabulary - i, true, zeros);
}

template <class T, bool kCapped, int kThreads>
__global__ void __launch_bounds__(kThreads) cross_entropy_rows_kernel(const CrossEntropyRows<T> args) {
  DEVICE_SHARED(float, scratch, [kThreads / kWarpSize]);
  const int64_t row = blockIdx.x;
  T* logits = args.logits + row * args.stride;
  const int vocabulary = static_cast<int>(args.vocabulary), target = args.targets[row];
  const bool ignored = target == args.ignore_index, valid = target >= 0 && target < vocabulary;
  if (!ignored || args.lse != nullptr) {
    const float logit = valid ? capped<kCapped>(to_float(logits[target]), args.softcap) : 0.0f;
    const LogSum all = log_sum_of_row<T, kCapped, kThreads>(logits, vocabulary, args.softcap, scratch);
    const float log_sum = logf(all.sum), lse = all.maximum + log_sum;
    if (threadIdx.x == 0) {
      if (args.lse != nullptr) args.lse[row] = lse;
      args.losses[row] = ignored ? 0.0f : valid ? all.maximum - logit + log_sum : NAN;
    }
    if (!ignored && args.gradient) {
      // Every thread has read the target's logit before the barriers of the sums above.
      const float factor = args.gradient_scale * (1.0f + 2.0f * args.z_loss * lse) / all.sum;
      const RowGradient gradient{all.maximum, factor, args.gradient_scale, args.softcap, target};
      write_gradient_of_row<T, kCapped, kThreads>(logits, vocabulary, gradient);
    }
  }
  if (!ignored) return;
  if (threadIdx.x == 0) args.losses[row] = 0.0f;
  if (args.gradient) clear_row<T, kThreads>(logits, vocabulary);
}

template <class T, int kThreads>
cudaError_t launch_cross_entropy(const CrossEntropyRows<T>& args, cudaStream_t stream) {
  const LaunchConfig launch(static_cast<unsigned>(args.rows), kThreads, 0, stream);
  return args.softcap > 0.0f ? device_launch(launch, &cross_entropy_rows_kernel<T, true, kThreads>, args)
                             : device_launch(launch, &cross_entropy_rows_kernel<T, false, kThreads>, args);
}

template <class T>
cudaError_t cross_entropy_rows(const CrossEntropyRows<T>& args, cudaStream_t stream) {
  constexpr int64_t kSmallVocabulary = 4096;  // from here on every thread of the larger block has work
  return args.vocabulary < kSmallVocabulary ? launch_cross_entropy<T, 128>(args, stream)
                                            : launch_cross_entropy<T, 512>(args, stream);
}

template cudaError_t cross_entropy_rows(const CrossEntropyRows<float>&, cudaStream_t);
template cudaError_t cross_entropy_rows(const CrossEntropyRows<bf16>&, cudaStream_t);

}  // namespace polar::kernels
