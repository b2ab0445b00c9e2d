// Flat operations on contiguous arrays of f32, f64 or bf16, bound by memory. Floor in bytes an element of
// size s: fill s (=), copy_rows 2s (=), cast s + s' (=), scale 2s (in place), axpby 3s (in place on y), sum
// s, dot 2s. Sums are in f64 in two stages: each block sums a chunk, whose size the count alone decides, and
// one block sums the chunks; both in a fixed order.
#include "flat.h"

#include "pieces.cuh"
#include "reduce.cuh"

namespace polar::kernels {

constexpr int kFlatThreads = 256;

// What arithmetic on T is done in.
template <class T>
struct ArithmeticOf {
  using type = float;
};
template <>
struct ArithmeticOf<double> {
  using type = double;
};
template <class T>
using Arithmetic = typename ArithmeticOf<T>::type;

template <class To>
__device__ __forceinline__ To round_once(double x) {
  if constexpr (sizeof(To) == sizeof(bf16))
    return __double2bfloat16(x);
  else
    return static_cast<To>(x);
}

// --- element-wise ---

// Each thread one piece of Body::kWidth elements: body.template apply<whole>(first, valid).
template <class Body>
__global__ void __launch_bounds__(kFlatThreads) elementwise_kernel(Body body, int64_t count) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kFlatThreads + threadIdx.x) * Body::kWidth;
  if (first >= count) return;
  if (body.aligned && count - first >= Body::kWidth)
    body.template apply<true>(first, Body::kWidth);
  else
    body.template apply<false>(first, count - first);
}
template <class Body>
cudaError_t launch_elementwise(const Body& body, int64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  const int64_t blocks = divide_up(count, int64_t{kFlatThreads} * Body::kWidth);
  return device_launch(LaunchConfig(static_cast<unsigned>(blocks), kFlatThreads, 0, stream),
                       &elementwise_kernel<Body>, body, count);
}

template <class Word>
struct FlatFill {
  static constexpr int kWidth = 16 / static_cast<int>(sizeof(Word));
  Word* x;
  Word value;
  bool aligned;
  template <bool whole>
  __device__ void apply(int64_t first, int64_t valid) const {
    if constexpr (whole) {
      uint64_t both = value;  // the word repeated through 8 bytes
#pragma unroll
      for (int bits = 8 * static_cast<int>(sizeof(Word)); bits < 64; bits *= 2) both |= both << bits;
      const auto low = static_cast<uint32_t>(both), high = static_cast<uint32_t>(both >> 32);
      store_global16(x + first, make_uint4(low, high, low, high));
    } else {
      for (int i = 0; i < kWidth && i < valid; ++i) x[first + i] = value;
    }
  }
};

template <class Word>
cudaError_t fill_words(void* x, uint64_t bits, int64_t count, cudaStream_t stream) {
  auto* words = static_cast<Word*>(x);
  return launch_elementwise(FlatFill<Word>{words, static_cast<Word>(bits), pieces_aligned(words)}, count,
                            stream);
}

cudaError_t fill(void* x, int element_bytes, uint64_t bits, int64_t count, cudaStream_t stream) {
  if (element_bytes == 2) return fill_words<uint16_t>(x, bits, count, stream);
  if (element_bytes == 4) return fill_words<uint32_t>(x, bits, count, stream);
  if (element_bytes == 8) return fill_words<uint64_t>(x, bits, count, stream);
  return cudaErrorInvalidValue;
}

template <class From, class To>
struct FlatCast {
  static constexpr int kWidth = 8;
  const From* from;
  To* to;
  bool aligned;
  template <bool whole>
  __device__ void apply(int64_t first, int64_t valid) const {
    if constexpr (sizeof(From) < sizeof(double) && sizeof(To) < sizeof(double)) {
      float value[kWidth];
      load_piece<whole>(from + first, valid, value);
      store_piece<whole>(to + first, valid, value);
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        if (i >= valid) continue;
        if constexpr (sizeof(From) == sizeof(double))
          to[first + i] = round_once<To>(from[first + i]);
        else
          to[first + i] = static_cast<double>(to_float(from[first + i]));
      }
    }
  }
};
template <class From, class To>
cudaError_t cast(const From* from, To* to, int64_t count, cudaStream_t stream) {
  const bool aligned = pieces_aligned(from) && pieces_aligned(to);
  return launch_elementwise(FlatCast<From, To>{from, to, aligned}, count, stream);
}

template <class T>
struct FlatScale {
  static constexpr int kWidth = 8;
  T* x;
  Arithmetic<T> factor;
  bool aligned;
  template <bool whole>
  __device__ void apply(int64_t first, int64_t valid) const {
    Arithmetic<T> value[kWidth];
    load_piece<whole>(static_cast<const T*>(x) + first, valid, value);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) value[i] *= factor;
    store_piece<whole>(x + first, valid, value);
  }
};
template <class T>
cudaError_t scale(T* x, double factor, int64_t count, cudaStream_t stream) {
  return launch_elementwise(FlatScale<T>{x, static_cast<Arithmetic<T>>(factor), pieces_aligned(x)}, count,
                            stream);
}

template <class T>
struct FlatAxpby {
  static constexpr int kWidth = 8;
  const T* x;
  T* y;
  Arithmetic<T> a, b;
  bool aligned;
  template <bool whole>
  __device__ void apply(int64_t first, int64_t valid) const {
    Arithmetic<T> in[kWidth], out[kWidth];
    load_piece<whole>(x + first, valid, in);
    load_piece<whole>(static_cast<const T*>(y) + first, valid, out);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[i] = a * in[i] + b * out[i];
    store_piece<whole>(y + first, valid, out);
  }
};
template <class T>
cudaError_t axpby(double a, const T* x, double b, T* y, int64_t count, cudaStream_t stream) {
  const bool aligned = pieces_aligned(x) && pieces_aligned(y);
  return launch_elementwise(
      FlatAxpby<T>{x, y, static_cast<Arithmetic<T>>(a), static_cast<Arithmetic<T>>(b), aligned}, count,
      stream);
}

// --- rows ---

// A row a block column of the grid's first dimension; `words` a row.
template <class Word>
__global__ void __launch_bounds__(kFlatThreads)
    copy_rows_kernel(const Word* from, int64_t from_stride, Word* to, int64_t to_stride, int64_t words) {
  const int64_t row = blockIdx.x, i = static_cast<int64_t>(blockIdx.y) * kFlatThreads + threadIdx.x;
  if (i < words) to[row * to_stride + i] = from[row * from_stride + i];
}
template <class Word>
cudaError_t copy_row_words(const void* from, int64_t from_stride, void* to, int64_t to_stride, int64_t rows,
                           int64_t row_bytes, cudaStream_t stream) {
  constexpr auto size = static_cast<int64_t>(sizeof(Word));
  const dim3 grid(static_cast<unsigned>(rows),
                  static_cast<unsigned>(divide_up(row_bytes / size, kFlatThreads)));
  return device_launch(LaunchConfig(grid, kFlatThreads, 0, stream), &copy_rows_kernel<Word>,
                       static_cast<const Word*>(from), from_stride / size, static_cast<Word*>(to),
                       to_stride / size, row_bytes / size);
}
cudaError_t copy_rows(const void* from, int64_t from_stride, void* to, int64_t to_stride, int64_t rows,
                      int64_t row_bytes, cudaStream_t stream) {
  const uint64_t together = reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to) |
                            static_cast<uint64_t>(from_stride) | static_cast<uint64_t>(to_stride) |
                            static_cast<uint64_t>(row_bytes);
  if (together % 16 == 0)
    return copy_row_words<uint4>(from, from_stride, to, to_stride, rows, row_bytes, stream);
  if (together % 4 == 0)
    return copy_row_words<uint32_t>(from, from_stride, to, to_stride, rows, row_bytes, stream);
  return copy_row_words<uint16_t>(from, from_stride, to, to_stride, rows, row_bytes, stream);
}

// --- sums ---

constexpr int64_t kSmallestChunk = 4 * kFlatThreads * 8;  // elements

// Block b sums the chunk [b * chunk, ...) of x, or of x y: thread t its pieces t, t + threads, ... in turn.
template <class T, bool product>
__global__ void __launch_bounds__(kFlatThreads)
    flat_chunk_sum_kernel(const T* x, const T* y, int64_t count, int64_t chunk, bool aligned,
                          double* partials) {
  DEVICE_SHARED(double, scratch, [kFlatThreads / kWarpSize]);
  constexpr int width = 8;
  const int64_t begin = blockIdx.x * chunk, end = begin + chunk < count ? begin + chunk : count;
  double total = 0.0;
  for (int64_t i = begin + threadIdx.x * width; i < end; i += kFlatThreads * width)
    for_piece(aligned && end - i >= width, [&](auto whole) {
      Arithmetic<T> a[width];
      load_piece<whole.value>(x + i, end - i, a);
      if constexpr (product) {
        Arithmetic<T> b[width];
        load_piece<whole.value>(y + i, end - i, b);
#pragma unroll
        for (int k = 0; k < width; ++k) total += static_cast<double>(a[k]) * static_cast<double>(b[k]);
      } else {
#pragma unroll
        for (int k = 0; k < width; ++k) total += static_cast<double>(a[k]);
      }
    });
  total = block_sum<kFlatThreads>(total, scratch);
  if (threadIdx.x == 0) partials[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kFlatThreads)
    flat_total_kernel(const double* partials, int64_t count, bool accumulate, double* out) {
  DEVICE_SHARED(double, scratch, [kFlatThreads / kWarpSize]);
  double total = 0.0;
  for (int64_t i = threadIdx.x; i < count; i += kFlatThreads) total += partials[i];
  total = block_sum<kFlatThreads>(total, scratch);
  if (threadIdx.x == 0) out[0] = accumulate ? out[0] + total : total;
}

template <class T, bool product>
cudaError_t reduce_flat(const T* x, const T* y, int64_t count, double* out, bool accumulate, double* partials,
                        cudaStream_t stream) {
  const int64_t pieces = divide_up(divide_up(count, kMaximumPartialSums), kSmallestChunk);
  const int64_t chunk = (pieces > 1 ? pieces : 1) * kSmallestChunk, chunks = divide_up(count, chunk);
  const bool aligned = pieces_aligned(x) && pieces_aligned(y);
  const cudaError_t status =
      device_launch(LaunchConfig(static_cast<unsigned>(chunks), kFlatThreads, 0, stream),
                    &flat_chunk_sum_kernel<T, product>, x, y, count, chunk, aligned, partials);
  if (status != cudaSuccess) return status;
  return device_launch(LaunchConfig(1, kFlatThreads, 0, stream), &flat_total_kernel, partials, chunks,
                       accumulate, out);
}
template <class T>
cudaError_t sum(const T* x, int64_t count, double* out, bool accumulate, double* partials,
                cudaStream_t stream) {
  return reduce_flat<T, false>(x, nullptr, count, out, accumulate, partials, stream);
}
template <class T>
cudaError_t dot(const T* x, const T* y, int64_t count, double* out, bool accumulate, double* partials,
                cudaStream_t stream) {
  return reduce_flat<T, true>(x, y, count, out, accumulate, partials, stream);
}

#define INSTANTIATE(T)                                                                  \
  template cudaError_t scale<T>(T*, double, int64_t, cudaStream_t);                     \
  template cudaError_t axpby<T>(double, const T*, double, T*, int64_t, cudaStream_t);   \
  template cudaError_t sum<T>(const T*, int64_t, double*, bool, double*, cudaStream_t); \
  template cudaError_t dot<T>(const T*, const T*, int64_t, double*, bool, double*, cudaStream_t);
INSTANTIATE(float)
INSTANTIATE(double)
INSTANTIATE(bf16)
#undef INSTANTIATE

template cudaError_t cast(const float*, double*, int64_t, cudaStream_t);
template cudaError_t cast(const float*, bf16*, int64_t, cudaStream_t);
template cudaError_t cast(const double*, float*, int64_t, cudaStream_t);
template cudaError_t cast(const double*, bf16*, int64_t, cudaStream_t);
template cudaError_t cast(const bf16*, float*, int64_t, cudaStream_t);
template cudaError_t cast(const bf16*, double*, int64_t, cudaStream_t);

}  // namespace polar::kernels
