// Sums of squares in fixed point: integers, whose additions, atomic ones too, may come in any order. Bound by
// memory: 4 bytes an element (floor: 4). Sixteen lanes sum an atom in f64, always in the same order; one of
// them keeps a running number in registers and goes to shared memory only where the size of the atoms' sums
// changes by more than 2^32.
#include "exact_sum.h"

#include "flat.h"
#include "pieces.cuh"
#include "reduce.cuh"

namespace polar::kernels {

using FixedPointWord = unsigned long long;

constexpr int kExactThreads = 256, kAtomLanes = 16, kLaneElements = kFixedPointAtom / kAtomLanes;
constexpr int kNumberDigits = kFixedPointDigits - 2, kInfinityDigit = kNumberDigits,
              kNanDigit = kNumberDigits + 1;
constexpr FixedPointWord kLowWord = 0xffffffffull;

// Three digits in a row, in registers, of the number whose digits are in shared memory.
struct RunningDigits {
  FixedPointWord* all;
  int first = 0;
  FixedPointWord digit[3] = {};

  __device__ explicit RunningDigits(FixedPointWord* digits) : all(digits) {}

  __device__ void flush() {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      if (digit[i] != 0) atomicAdd(all + first + i, digit[i]);
      digit[i] = 0;
    }
  }
  // value >= 0, below 2^262, infinite, or NaN.
  __device__ void add(double value) {
    const auto bits = static_cast<FixedPointWord>(__double_as_longlong(value));
    const int exponent = static_cast<int>(bits >> 52) & 0x7ff;
    if (exponent == 0) return;
    if (exponent == 0x7ff) {
      atomicAdd(all + (value != value ? kNanDigit : kInfinityDigit), 1ull);
      return;
    }
    FixedPointWord mantissa = (bits & ((1ull << 52) - 1)) | 1ull << 52;
    int position = exponent - 1075 + kFixedPointPlaces;
    if (position < 0) {
      mantissa = position > -64 ? mantissa >> -position : 0;
      position = 0;
    }
    if (position / 32 != first) {
      flush();
      first = position / 32;
    }
    const int shift = position % 32;
    const FixedPointWord low = (mantissa & kLowWord) << shift, high = (mantissa >> 32) << shift;
    digit[0] += low & kLowWord;
    digit[1] += (low >> 32) + (high & kLowWord);
    digit[2] += high >> 32;
  }
};

// Two atoms a warp at a time.
__global__ void __launch_bounds__(kExactThreads)
    exact_squares_kernel(const float* x, int64_t count, bool aligned, FixedPointWord* total) {
  DEVICE_SHARED(FixedPointWord, digits, [kFixedPointDigits]);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kFixedPointDigits) digits[thread] = 0;
  __syncthreads();
  RunningDigits running(digits);
  constexpr int64_t stride = kExactThreads * kLaneElements;  // elements that a block takes at once
  const int lane = thread % kWarpSize;
  const int64_t warp = (thread - lane) * kLaneElements;
  for (int64_t base = blockIdx.x * stride + warp; base < count; base += gridDim.x * stride) {
    const int64_t begin = base + lane * kLaneElements;
    double squares = 0.0;
    for_piece(aligned && count - begin >= kLaneElements, [&](auto whole) {
      float value[kLaneElements];
      load_piece<whole.value>(x + begin, count - begin, value);
#pragma unroll
      for (int i = 0; i < kLaneElements; ++i)
        squares += static_cast<double>(value[i]) * static_cast<double>(value[i]);
    });
    squares = warp_reduce<kAtomLanes>(squares, Sum{});
    if (lane % kAtomLanes == 0) running.add(squares);
  }
  running.flush();
  __syncthreads();
  if (thread < kFixedPointDigits && digits[thread] != 0) atomicAdd(total + thread, digits[thread]);
}

// Every digit below 2^32, as the number has them in one way only. By one thread.
__device__ inline void carry_digits(FixedPointWord (&digits)[kFixedPointDigits]) {
  for (int i = 0; i + 1 < kNumberDigits; ++i) {
    digits[i + 1] += digits[i] >> 32;
    digits[i] &= kLowWord;
  }
}

__global__ void exact_digits_kernel(const FixedPointWord* total, bool accumulate, double* digits) {
  FixedPointWord carried[kFixedPointDigits];
  for (int i = 0; i < kFixedPointDigits; ++i) carried[i] = total[i];
  carry_digits(carried);
  for (int i = 0; i < kFixedPointDigits; ++i)
    digits[i] = (accumulate ? digits[i] : 0.0) + static_cast<double>(carried[i]);
}

__global__ void exact_value_kernel(const double* digits, double* out) {
  FixedPointWord carried[kFixedPointDigits];
  for (int i = 0; i < kFixedPointDigits; ++i) carried[i] = static_cast<FixedPointWord>(digits[i]);
  carry_digits(carried);
  double value = 0.0;  // in units of the digit; the smallest first, so that little is rounded before the end
  for (int i = 0; i < kNumberDigits; ++i) value = value * 0x1p-32 + static_cast<double>(carried[i]);
  static_assert(32 * (kNumberDigits - 1) - kFixedPointPlaces == 288);
  value *= 0x1p288;
  if (carried[kInfinityDigit] > 0) value = __longlong_as_double(0x7ff0000000000000ll);
  if (carried[kNanDigit] > 0) value = __longlong_as_double(0x7ff8000000000000ll);
  out[0] = value;
}

cudaError_t exact_squares(const float* x, int64_t count, double* digits, bool accumulate, void* scratch,
                          cudaStream_t stream) {
  constexpr int64_t largest_grid = 1024;
  const int64_t blocks = divide_up(count, int64_t{kExactThreads} * kLaneElements);
  auto* total = static_cast<FixedPointWord*>(scratch);
  cudaError_t status = fill(total, sizeof *total, 0, kFixedPointDigits, stream);
  if (status != cudaSuccess) return status;
  if (count > 0)
    status = device_launch(LaunchConfig(static_cast<unsigned>(blocks < largest_grid ? blocks : largest_grid),
                                        kExactThreads, 0, stream),
                           &exact_squares_kernel, x, count, pieces_aligned(x), total);
  if (status != cudaSuccess) return status;
  return device_launch(LaunchConfig(1, 1, 0, stream), &exact_digits_kernel,
                       static_cast<const FixedPointWord*>(total), accumulate, digits);
}

cudaError_t exact_value(const double* digits, double* out, cudaStream_t stream) {
  return device_launch(LaunchConfig(1, 1, 0, stream), &exact_value_kernel, digits, out);
}

}  // namespace polar::kernels
