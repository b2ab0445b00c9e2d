// Element-wise optimizer updates, bound by memory. Floor in bytes an element: adamw 28 (parameter, m and v
// read and written, gradient read), 2 more with a BF16 copy; momentum_update 12 (buffer read and written,
// gradient read) and 4 or 2 for `out`; matrix_update 12 (parameter read and written, direction read), 2 more
// with a copy. All in place. What all elements share (powers of beta or of a norm) is computed by one thread
// of each block; a block does many pieces. Arithmetic in float, what is shared in double.
#include "optimizer.h"

#include <cmath>

#include "pieces.cuh"

namespace polar::kernels {

constexpr int kUpdateThreads = 256, kUpdateWidth = 4;
constexpr int64_t kMaximumUpdateBlocks = 2048;

inline unsigned update_blocks(int64_t count) {
  const int64_t blocks = divide_up(count, int64_t{kUpdateThreads} * kUpdateWidth);
  return static_cast<unsigned>(blocks < kMaximumUpdateBlocks ? blocks : kMaximumUpdateBlocks);
}

// Calls update(first, valid) for the pieces of this thread.
template <class Update>
__device__ __forceinline__ void for_each_update_piece(int64_t count, const Update& update) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kUpdateThreads * kUpdateWidth;
  int64_t first = (static_cast<int64_t>(blockIdx.x) * kUpdateThreads + threadIdx.x) * kUpdateWidth;
  for (; first < count; first += step) update(first, count - first);
}

__device__ __forceinline__ void load_floats(const Floats& from, int64_t first, int64_t valid, bool aligned,
                                            float (&out)[kUpdateWidth]) {
  if (from.is_bf16)
    load_piece(static_cast<const bf16*>(from.data) + first, valid, aligned, out);
  else
    load_piece(static_cast<const float*>(from.data) + first, valid, aligned, out);
}
__device__ __forceinline__ void store_floats(const Floats& to, int64_t first, int64_t valid, bool aligned,
                                             const float (&value)[kUpdateWidth]) {
  if (to.is_bf16)
    store_piece(static_cast<bf16*>(to.data) + first, valid, aligned, value);
  else
    store_piece(static_cast<float*>(to.data) + first, valid, aligned, value);
}
inline bool floats_aligned(const Floats& x) {
  return pieces_aligned(static_cast<const char*>(x.data));
}

// --- stochastic rounding ---

// SplitMix64's finaliser: a bijection of 64 bits with full avalanche.
__device__ __forceinline__ uint64_t mix64(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// x plus 16 bits of noise below the last place of a BF16, cut off there: exact in a BF16. Infinities and NaN
// stay.
__device__ __forceinline__ float round_by_noise(float x, uint32_t noise) {
  const uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7f800000u) == 0x7f800000u) return x;
  return __uint_as_float((bits + (noise & 0xffffu)) & 0xffff0000u);
}

__device__ __forceinline__ void store_rounded(const RoundedCopy& to, uint64_t stream, int64_t first,
                                              int64_t valid, bool aligned,
                                              const float (&value)[kUpdateWidth]) {
  if (to.data == nullptr) return;
  float out[kUpdateWidth];
  const uint64_t noise = to.seed == 0 ? 0 : mix64(stream ^ static_cast<uint64_t>(first / kUpdateWidth));
#pragma unroll
  for (int i = 0; i < kUpdateWidth; ++i)
    out[i] = to.seed == 0 ? value[i] : round_by_noise(value[i], static_cast<uint32_t>(noise >> (16 * i)));
  store_piece(to.data + first, valid, aligned, out);
}
__device__ __forceinline__ uint64_t noise_stream(const RoundedCopy& copy, double applied_steps) {
  return mix64(mix64(copy.seed) ^ static_cast<uint64_t>(applied_steps));
}

// --- AdamW ---

struct AdamWShared {
  float gradient_scale, step, eps;
  uint64_t stream;
  bool apply;
};

// lr / c1 * m / (sqrt(v) / c2 + eps), c2 here the root, with both sides of the fraction times c2: one
// division less.
__device__ inline AdamWShared adamw_shared(const AdamWArguments& args) {
  const double t = args.control[kControlPlaceAppliedSteps];
  const double c1 = 1.0 - pow(args.beta1, t), c2 = sqrt(1.0 - pow(args.beta2, t));
  return {.gradient_scale = static_cast<float>(args.control[kControlPlaceGradientScale]),
          .step = static_cast<float>(args.lr * c2 / c1),
          .eps = static_cast<float>(args.eps * c2),
          .stream = noise_stream(args.weight, t),
          .apply = args.control[kControlPlaceApply] != 0.0};
}

__global__ void __launch_bounds__(kUpdateThreads) adamw_kernel(AdamWArguments args, bool aligned) {
  DEVICE_SHARED(AdamWShared, shared);
  if (threadIdx.x == 0) shared = adamw_shared(args);
  __syncthreads();
  const AdamWShared s = shared;
  if (!s.apply) return;
  const auto keep = static_cast<float>(1.0 - args.lr * args.weight_decay);
  const auto beta2 = static_cast<float>(args.beta2);
  const auto gain1 = static_cast<float>(1.0 - args.beta1), gain2 = static_cast<float>(1.0 - args.beta2);
  for_each_update_piece(args.count, [&](int64_t first, int64_t valid) {
    float p[kUpdateWidth], g[kUpdateWidth], m[kUpdateWidth], v[kUpdateWidth];
    load_piece(static_cast<const float*>(args.parameter) + first, valid, aligned, p);
    load_piece(args.gradient + first, valid, aligned, g);
    load_piece(static_cast<const float*>(args.m) + first, valid, aligned, m);
    load_piece(static_cast<const float*>(args.v) + first, valid, aligned, v);
#pragma unroll
    for (int i = 0; i < kUpdateWidth; ++i) {
      const float gradient = s.gradient_scale * g[i];
      m[i] += gain1 * (gradient - m[i]);
      v[i] = beta2 * v[i] + gain2 * gradient * gradient;
      p[i] = keep * p[i] - s.step * m[i] / (sqrtf(v[i]) + s.eps);
    }
    store_piece(args.parameter + first, valid, aligned, p);
    store_piece(args.m + first, valid, aligned, m);
    store_piece(args.v + first, valid, aligned, v);
    store_rounded(args.weight, s.stream, first, valid, aligned, p);
  });
}

cudaError_t adamw(const AdamWArguments& args, cudaStream_t stream) {
  const bool aligned = pieces_aligned(args.parameter) && pieces_aligned(args.gradient) &&
                       pieces_aligned(args.m) && pieces_aligned(args.v) && pieces_aligned(args.weight.data);
  return device_launch(LaunchConfig(update_blocks(args.count), kUpdateThreads, 0, stream), &adamw_kernel,
                       args, aligned);
}

// --- momentum ---

__global__ void __launch_bounds__(kUpdateThreads)
    momentum_update_kernel(MomentumArguments args, bool aligned) {
  if (args.control[kControlPlaceApply] == 0.0) return;
  const auto gain = static_cast<float>(args.gain * args.control[kControlPlaceGradientScale]);
  for_each_update_piece(args.count, [&](int64_t first, int64_t valid) {
    float g[kUpdateWidth], b[kUpdateWidth] = {};
    load_floats(args.gradient, first, valid, aligned, g);
    if (args.beta != 0.0f) load_floats(args.buffer, first, valid, aligned, b);
#pragma unroll
    for (int i = 0; i < kUpdateWidth; ++i) b[i] = args.beta * b[i] + gain * g[i];
    store_floats(args.buffer, first, valid, aligned, b);
    if (args.out.data == nullptr) return;
#pragma unroll
    for (int i = 0; i < kUpdateWidth; ++i)
      if (args.nesterov) b[i] = args.beta * b[i] + gain * g[i];
    store_floats(args.out, first, valid, aligned, b);
  });
}

cudaError_t momentum_update(const MomentumArguments& args, cudaStream_t stream) {
  const bool aligned =
      floats_aligned(args.gradient) && floats_aligned(args.buffer) && floats_aligned(args.out);
  return device_launch(LaunchConfig(update_blocks(args.count), kUpdateThreads, 0, stream),
                       &momentum_update_kernel, args, aligned);
}

// --- matrix update ---

struct MatrixShared {
  float step;
  uint64_t stream;
};

__device__ inline MatrixShared matrix_shared(const MatrixUpdateArguments& args) {
  double scale = args.scale == nullptr ? 1.0 : fabs(args.scale[0]);
  if (args.scale != nullptr && args.exponent != 1.0) scale = pow(scale, args.exponent);
  return {.step = static_cast<float>(args.lr * args.multiplier * scale),
          .stream = noise_stream(args.weight, args.control[kControlPlaceAppliedSteps])};
}

__global__ void __launch_bounds__(kUpdateThreads)
    matrix_update_kernel(MatrixUpdateArguments args, bool aligned) {
  DEVICE_SHARED(MatrixShared, shared);
  if (threadIdx.x == 0) shared = matrix_shared(args);
  __syncthreads();
  const MatrixShared s = shared;
  if (args.control[kControlPlaceApply] == 0.0) return;
  const auto keep = static_cast<float>(1.0 - args.lr * args.weight_decay);
  for_each_update_piece(args.count, [&](int64_t first, int64_t valid) {
    float p[kUpdateWidth], d[kUpdateWidth];
    load_piece(static_cast<const float*>(args.parameter) + first, valid, aligned, p);
    load_floats(args.direction, first, valid, aligned, d);
#pragma unroll
    for (int i = 0; i < kUpdateWidth; ++i) p[i] = keep * p[i] - s.step * d[i];
    store_piece(args.parameter + first, valid, aligned, p);
    store_rounded(args.weight, s.stream, first, valid, aligned, p);
  });
}

cudaError_t matrix_update(const MatrixUpdateArguments& args, cudaStream_t stream) {
  const bool aligned =
      pieces_aligned(args.parameter) && floats_aligned(args.direction) && pieces_aligned(args.weight.data);
  return device_launch(LaunchConfig(update_blocks(args.count), kUpdateThreads, 0, stream),
                       &matrix_update_kernel, args, aligned);
}

}  // namespace polar::kernels
