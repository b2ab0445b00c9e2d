// Softmax cross-entropy of rows of logits with optional soft-cap and z-loss: losses, lse (`=`, float), and
// the gradient in place of the logits (T = float or bf16, rows of V with a stride). One block a row, two
// passes: the first gathers maximum and sum of every thread's columns, the second turns logits into
// gradients.
//
// Floor: V * sizeof(T) bytes a row read and, with the gradient, as many written; the second reading comes
// from the L2 cache (a row of 151,936 bf16 is 297 KiB).
#include "cross_entropy.h"

#include "ptx.cuh"
#include "reduce.cuh"
#include "vector.cuh"

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

template <class T, bool kCapped, int kThreads>
__device__ __forceinline__ LogSum log_sum_of_row(const T* logits, int vocabulary, float softcap,
                                                 float* scratch) {
  constexpr int kCount = Vector<T>::kCount;
  const int thread = static_cast<int>(threadIdx.x), whole = vocabulary / kCount;
  LogSum own;
#pragma unroll 4
  for (int i = thread; i < whole; i += kThreads) {
    Vector<T> piece = load_vector(logits + i * kCount);
#pragma unroll
    for (float& logit : piece.value) logit = capped<kCapped>(logit, softcap);
    own.add(piece.value);
  }
  if (thread < vocabulary - whole * kCount) {
    const float last[1] = {capped<kCapped>(to_float(logits[whole * kCount + thread]), softcap)};
    own.add(last);
  }
  LogSum row;
  row.maximum = block_max<kThreads>(own.maximum, scratch);
  row.sum = block_sum<kThreads>(own.sum * exp_below(own.maximum, row.maximum), scratch);
  return row;
}

template <class T, bool kCapped, int kThreads>
__device__ __forceinline__ void write_gradient_of_row(T* logits, int vocabulary, const RowGradient& row) {
  constexpr int kCount = Vector<T>::kCount;
  const int thread = static_cast<int>(threadIdx.x), whole = vocabulary / kCount;
#pragma unroll 2
  for (int i = thread; i < whole; i += kThreads) {
    Vector<T> piece = load_vector(logits + i * kCount);
#pragma unroll
    for (int j = 0; j < kCount; ++j) piece.value[j] = row.of<kCapped>(piece.value[j], i * kCount + j);
    store_vector(logits + i * kCount, piece);
  }
  const int last = whole * kCount + thread;
  if (last < vocabulary) logits[last] = from_float<T>(row.of<kCapped>(to_float(logits[last]), last));
}

template <class T, int kThreads>
__device__ __forceinline__ void clear_row(T* logits, int vocabulary) {
  constexpr int kCount = Vector<T>::kCount;
  const int thread = static_cast<int>(threadIdx.x), whole = vocabulary / kCount;
  for (int i = thread; i < whole; i += kThreads) store_vector(logits + i * kCount, Vector<T>{});
  const int last = whole * kCount + thread;
  if (last < vocabulary) logits[last] = from_float<T>(0.0f);
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
