// Element-wise optimizer updates, bound by memory. Floor in bytes an element: adamw 28 (parameter, m and v
// read and written, gradient read), 2 more with a BF16 copy; momentum_update 12 (buffer read and written,
// gradient read) and 4 or 2 for `out`; matrix_update 12 (parameter read and written, direction read), 2 more
// with a copy. The last two take a batch of matrices, one a gridDim.y. All in place. What all elements share
// (powers of beta or of a norm) is computed by one thread of each block; a block does many pieces. Arithmetic
// in float, what is shared in double.
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

// Calls update(whole, first, valid) for the pieces of this thread, `whole` a std::true_type or
// std::false_type.
template <class Update>
__device__ __forceinline__ void for_each_update_piece(int64_t count, bool aligned, const Update& update) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * kUpdateThreads * kUpdateWidth;
  int64_t first = (static_cast<int64_t>(blockIdx.x) * kUpdateThreads + threadIdx.x) * kUpdateWidth;
  for (; first < count; first += step)
    for_piece(aligned && count - first >= kUpdateWidth,
              [&](auto whole) { update(whole, first, count - first); });
}

// A piece of an array of either dtype on its way from memory: the bits, F32 one a word, BF16 two.
template <bool whole>
struct FloatsPiece {
  uint32_t word[kUpdateWidth];
  bool is_bf16;
  __device__ __forceinline__ FloatsPiece(const Floats& from, int64_t first, int64_t valid)
      : word{}, is_bf16(from.is_bf16) {
    if constexpr (whole) {
      if (is_bf16) {
        const uint2 raw = load_global8(static_cast<const bf16*>(from.data) + first);
        word[0] = raw.x;
        word[1] = raw.y;
      } else {
        const uint4 raw = load_global16(static_cast<const float*>(from.data) + first);
        word[0] = raw.x;
        word[1] = raw.y;
        word[2] = raw.z;
        word[3] = raw.w;
      }
    } else {
      float value[kUpdateWidth];
      if (is_bf16)
        load_piece<false>(static_cast<const bf16*>(from.data) + first, valid, value);
      else
        load_piece<false>(static_cast<const float*>(from.data) + first, valid, value);
      is_bf16 = false;
#pragma unroll
      for (int i = 0; i < kUpdateWidth; ++i) word[i] = __float_as_uint(value[i]);
    }
  }
  __device__ __forceinline__ void get(float (&out)[kUpdateWidth]) const {
    static_assert(kUpdateWidth == 4);
#pragma unroll
    for (int i = 0; i < kUpdateWidth; ++i) {
      const uint32_t pair = word[i / 2];
      const float from_pair = i % 2 == 0 ? unpack_low(pair) : unpack_high(pair);
      out[i] = is_bf16 ? from_pair : __uint_as_float(word[i]);
    }
  }
};
template <bool whole>
__device__ __forceinline__ void store_floats(const Floats& to, int64_t first, int64_t valid,
                                             const float (&value)[kUpdateWidth]) {
  if (to.is_bf16)
    store_piece<whole>(static_cast<bf16*>(to.data) + first, valid, value);
  else
    store_piece<whole>(static_cast<float*>(to.data) + first, valid, value);
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

template <bool whole>
__device__ __forceinline__ void store_rounded(const RoundedCopy& to, uint64_t stream, int64_t first,
                                              int64_t valid, const float (&value)[kUpdateWidth]) {
  if (to.data == nullptr) return;
  float out[kUpdateWidth];
  const uint64_t noise = to.seed == 0 ? 0 : mix64(stream ^ static_cast<uint64_t>(first / kUpdateWidth));
#pragma unroll
  for (int i = 0; i < kUpdateWidth; ++i)
    out[i] = to.seed == 0 ? value[i] : round_by_noise(value[i], static_cast<uint32_t>(noise >> (16 * i)));
  store_piece<whole>(to.data + first, valid, out);
}
__device__ __forceinline__ uint64_t noise_stream(const RoundedCopy& copy, double applied_steps) {
  return mix64(mix64(copy.seed) ^ static_cast<uint64_t>(applied_steps));
}

// --- AdamW ---

struct AdamWShared {
  float gradient_scale, keep, step, eps;
  uint64_t stream;
  bool apply;
};

// lr / c1 * m / (sqrt(v) / c2 + eps), c2 here the root, with both sides of the fraction times c2: one
// division less.
__device__ inline AdamWShared adamw_shared(const AdamWArguments& args) {
  const double t = args.control[kControlPlaceAppliedSteps], lr = args.lr[0];
  const double c1 = 1.0 - pow(args.beta1, t), c2 = sqrt(1.0 - pow(args.beta2, t));
  return {.gradient_scale = static_cast<float>(args.control[kControlPlaceGradientScale]),
          .keep = static_cast<float>(1.0 - lr * args.weight_decay),
          .step = static_cast<float>(lr * c2 / c1),
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
  const auto beta2 = static_cast<float>(args.beta2);
  const auto gain1 = static_cast<float>(1.0 - args.beta1), gain2 = static_cast<float>(1.0 - args.beta2);
  for_each_update_piece(args.count, aligned, [&](auto whole, int64_t first, int64_t valid) {
    float p[kUpdateWidth], g[kUpdateWidth], m[kUpdateWidth], v[kUpdateWidth];
    load_piece<whole.value>(static_cast<const float*>(args.parameter) + first, valid, p);
    load_piece<whole.value>(args.gradient + first, valid, g);
    load_piece<whole.value>(static_cast<const float*>(args.m) + first, valid, m);
    load_piece<whole.value>(static_cast<const float*>(args.v) + first, valid, v);
#pragma unroll
    for (int i = 0; i < kUpdateWidth; ++i) {
      const float gradient = s.gradient_scale * g[i];
      m[i] += gain1 * (gradient - m[i]);
      v[i] = beta2 * v[i] + gain2 * gradient * gradient;
      const float keep = args.cautious && m[i] * p[i] < 0.0f ? 1.0f : s.keep;
      p[i] = keep * p[i] - s.step * m[i] / (sqrtf(v[i]) + s.eps);
    }
    store_piece<whole.value>(args.parameter + first, valid, p);
    store_piece<whole.value>(args.m + first, valid, m);
    store_piece<whole.value>(args.v + first, valid, v);
    store_rounded<whole.value>(args.weight, s.stream, first, valid, p);
  });
}

cudaError_t adamw(const AdamWArguments& args, cudaStream_t stream) {
  const bool aligned = pieces_aligned(args.parameter) && pieces_aligned(args.gradient) &&
                       pieces_aligned(args.m) && pieces_aligned(args.v) && pieces_aligned(args.weight.data);
  return device_launch(LaunchConfig(update_blocks(args.count), kUpdateThreads, 0, stream), &adamw_kernel,
                       args, aligned);
}

// --- batches of matrices ---

__device__ __forceinline__ int64_t place_of(const double* places, int64_t matrix, int64_t count) {
  return places == nullptr ? matrix * count : static_cast<int64_t>(places[matrix]);
}
__device__ __forceinline__ Floats from_element(const Floats& x, int64_t element) {
  if (x.data == nullptr) return x;
  const int64_t bytes = element * (x.is_bf16 ? 2 : 4);
  return {static_cast<char*>(x.data) + bytes, x.is_bf16};
}
// Do matrices that begin at multiples of `count` begin at pieces? What `places` says, a block finds out.
constexpr bool stride_aligned(int64_t count, int64_t batch) {
  return batch == 1 || count % kUpdateWidth == 0;
}
inline LaunchConfig update_launch(int64_t count, int64_t batch, cudaStream_t stream) {
  return LaunchConfig(dim3(update_blocks(count), static_cast<unsigned>(batch)), kUpdateThreads, 0, stream);
}

// --- momentum ---

__global__ void __launch_bounds__(kUpdateThreads)
    momentum_update_kernel(MomentumArguments args, bool aligned) {
  if (args.control[kControlPlaceApply] == 0.0) return;
  const int64_t matrix = blockIdx.y, place = place_of(args.places, matrix, args.count);
  const Floats gradients = from_element(args.gradient, place),
               buffer = from_element(args.buffer, matrix * args.count),
               out = from_element(args.out, matrix * args.count);
  const double scale = args.control[kControlPlaceGradientScale];
  const float beta = args.beta_now == nullptr ? args.beta : static_cast<float>(*args.beta_now);
  const auto gain = static_cast<float>(
      (args.beta_now != nullptr && args.average ? 1.0 - *args.beta_now : args.gain) * scale);
  const auto before = static_cast<float>(args.interpolation),
             news = static_cast<float>((1.0 - args.interpolation) * scale);
  for_each_update_piece(args.count, aligned && place % kUpdateWidth == 0,
                        [&](auto whole, int64_t first, int64_t valid) {
                          const FloatsPiece<whole.value> gradient(gradients, first, valid);
                          float g[kUpdateWidth], b[kUpdateWidth] = {}, o[kUpdateWidth];
                          if (beta != 0.0f || before != 0.0f)
                            FloatsPiece<whole.value>(buffer, first, valid).get(b);
                          gradient.get(g);
#pragma unroll
                          for (int i = 0; i < kUpdateWidth; ++i) {
                            o[i] = before * b[i] + news * g[i];
                            b[i] = beta * b[i] + gain * g[i];
                            if (before == 0.0f) o[i] = args.nesterov ? beta * b[i] + gain * g[i] : b[i];
                          }
                          store_floats<whole.value>(buffer, first, valid, b);
                          if (out.data != nullptr) store_floats<whole.value>(out, first, valid, o);
                        });
}

cudaError_t momentum_update(const MomentumArguments& args, cudaStream_t stream) {
  const bool aligned = floats_aligned(args.gradient) && floats_aligned(args.buffer) &&
                       floats_aligned(args.out) && stride_aligned(args.count, args.batch);
  return device_launch(update_launch(args.count, args.batch, stream), &momentum_update_kernel, args, aligned);
}

// --- matrix update ---

struct MatrixShared {
  float keep, step;
  uint64_t stream;
};

__device__ inline MatrixShared matrix_shared(const MatrixUpdateArguments& args, int64_t matrix) {
  double scale = args.scale == nullptr ? 1.0 : fabs(args.scale[matrix]);
  if (args.scale != nullptr && args.exponent != 1.0) scale = pow(scale, args.exponent);
  const uint64_t stream = noise_stream(args.weight, args.control[kControlPlaceAppliedSteps]);
  return {.keep = static_cast<float>(1.0 - args.lr[0] * args.weight_decay),
          .step = static_cast<float>(args.lr[0] * args.multiplier * scale),
          .stream = matrix == 0 ? stream : mix64(stream + static_cast<uint64_t>(matrix))};
}

__global__ void __launch_bounds__(kUpdateThreads)
    matrix_update_kernel(MatrixUpdateArguments args, bool aligned) {
  DEVICE_SHARED(MatrixShared, shared);
  const int64_t matrix = blockIdx.y;
  if (threadIdx.x == 0) shared = matrix_shared(args, matrix);
  __syncthreads();
  const MatrixShared s = shared;
  if (args.control[kControlPlaceApply] == 0.0) return;
  const int64_t place = place_of(args.places, matrix, args.count),
                weight_place = place_of(args.weight_places, matrix, args.count);
  float* parameter = args.parameter + place;
  const Floats directions = from_element(args.direction, matrix * args.count);
  const RoundedCopy weight{args.weight.data == nullptr ? nullptr : args.weight.data + weight_place,
                           args.weight.seed};
  const bool all_aligned = aligned && place % kUpdateWidth == 0 && weight_place % kUpdateWidth == 0;
  for_each_update_piece(args.count, all_aligned, [&](auto whole, int64_t first, int64_t valid) {
    const FloatsPiece<whole.value> direction(directions, first, valid);
    float p[kUpdateWidth], d[kUpdateWidth];
    load_piece<whole.value>(static_cast<const float*>(parameter) + first, valid, p);
    direction.get(d);
#pragma unroll
    for (int i = 0; i < kUpdateWidth; ++i) {
      const float keep = args.cautious && d[i] * p[i] < 0.0f ? 1.0f : s.keep;
      p[i] = keep * p[i] - s.step * d[i];
    }
    store_piece<whole.value>(parameter + first, valid, p);
    store_rounded<whole.value>(weight, s.stream, first, valid, p);
  });
}

cudaError_t matrix_update(const MatrixUpdateArguments& args, cudaStream_t stream) {
  const bool aligned = pieces_aligned(args.parameter) && floats_aligned(args.direction) &&
                       pieces_aligned(args.weight.data) && stride_aligned(args.count, args.batch);
  return device_launch(update_launch(args.count, args.batch, stream), &matrix_update_kernel, args, aligned);
}

}  // namespace polar::kernels
