// Per-head RMSNorm and rotary embedding in one pass. A head of a row belongs to 2 to 32 neighbouring lanes;
// lane l has the pieces l, l + lanes, ... of the first half and those they turn with in the second, so that
// it needs no other lane for the rotation. Arithmetic in float. Floor in bytes an element of size s: forward
// 2 s (=; in place if wanted), backward without norm 2 s, with norm 3 s (input and gradient read, gradient
// written; dweight +=). The table, 4 bytes an element of one row of heads a position, stays in the L2 cache.
#include "rope.h"

#include <type_traits>

#include "column_sums.cuh"
#include "reduce.cuh"

namespace polar::kernels {

constexpr int kRopeThreads = 128;

// How heads are laid over lanes: in whole pieces, one a lane and half; or in single elements, up to kTurns of
// them.
template <class T>
struct RopePieces {
  static constexpr bool kWhole = true;
  static constexpr int kWidth = kPiece<T>, kTurns = 1;
};
struct RopeSingles {
  static constexpr bool kWhole = false;
  static constexpr int kWidth = 1;
  static constexpr int kTurns = static_cast<int>(kMaximumRopeHeadDim / 2 / kWarpSize);
};

// The place of this thread in the grid; a unit is a head of a row.
template <class Layout>
struct RopePlace {
  int64_t half;
  int lanes, lane;
  __device__ __forceinline__ RopePlace(int64_t head_dim, int lanes_)
      : half(head_dim / 2), lanes(lanes_), lane(static_cast<int>(threadIdx.x) % lanes_) {}
  __device__ __forceinline__ int64_t units_per_block() const { return kRopeThreads / lanes; }
  __device__ __forceinline__ int64_t first_unit() const {
    return blockIdx.x * units_per_block() + static_cast<int>(threadIdx.x) / lanes;
  }
  // Where in a half this lane's piece of a turn begins, and whether there is one. It is whole: halves are.
  __device__ __forceinline__ int64_t offset(int turn) const {
    return (static_cast<int64_t>(turn) * lanes + lane) * Layout::kWidth;
  }
  __device__ __forceinline__ bool here(int turn) const { return offset(turn) < half; }
};

// One lane's part of a head, to compute with: [turn][half][element].
template <class Layout>
struct RopePart {
  float value[Layout::kTurns][2][Layout::kWidth];
};

// The same on its way from memory.
template <class Layout, class S>
struct RopeLoad {
  using Element = std::conditional_t<Layout::kWhole, Piece<true, S>, float>;
  static constexpr int kWidth = Layout::kWhole ? kPiece<S> : 1, kCount = Layout::kWidth / kWidth;
  Element element[Layout::kTurns][2][kCount];

  // `there`: whether the head exists; what does not counts as 0.
  __device__ __forceinline__ RopeLoad(const RopePlace<Layout>& place, const S* head, bool there = true) {
#pragma unroll
    for (int turn = 0; turn < Layout::kTurns; ++turn)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int j = 0; j < kCount; ++j)
          load(element[turn][h][j], head + h * place.half + place.offset(turn) + j * kWidth,
               there && place.here(turn));
  }
  __device__ __forceinline__ static void load(Element& to, const S* from, bool there) {
    if constexpr (Layout::kWhole) {
      to.zero();
      if (there) to.load(from, kWidth);
    } else {
      to = there ? to_float(*from) : 0.0f;
    }
  }
  __device__ __forceinline__ RopePart<Layout> get() const {
    RopePart<Layout> out;
#pragma unroll
    for (int turn = 0; turn < Layout::kTurns; ++turn)
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int j = 0; j < kCount; ++j) {
          float value[kWidth];
          if constexpr (Layout::kWhole)
            element[turn][h][j].get(value);
          else
            value[0] = element[turn][h][j];
#pragma unroll
          for (int i = 0; i < kWidth; ++i) out.value[turn][h][j * kWidth + i] = value[i];
        }
    return out;
  }
};

template <class Layout, class T>
__device__ __forceinline__ void store_rope_part(const RopePlace<Layout>& place, T* head,
                                                const RopePart<Layout>& part) {
#pragma unroll
  for (int turn = 0; turn < Layout::kTurns; ++turn)
#pragma unroll
    for (int h = 0; h < 2; ++h)
      if (place.here(turn))
        store_piece<Layout::kWhole>(head + h * place.half + place.offset(turn), Layout::kWidth,
                                    part.value[turn][h]);
}

// Calls body(turn, half, element) for the elements of a part.
template <class Layout, class Body>
__device__ __forceinline__ void for_rope_part(const Body& body) {
#pragma unroll
  for (int turn = 0; turn < Layout::kTurns; ++turn)
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int i = 0; i < Layout::kWidth; ++i) body(turn, h, i);
}

// The sum over the lanes of a head; all lanes of the warp take part.
template <class Layout>
__device__ __forceinline__ float rope_sum(const RopePlace<Layout>& place, float sum) {
  for (int offset = place.lanes / 2; offset > 0; offset /= 2) sum += __shfl_xor_sync(kFullWarp, sum, offset);
  return sum;
}

template <class Layout>
__device__ __forceinline__ float rope_rstd(const RopePlace<Layout>& place, const RopePart<Layout>& x,
                                           float eps) {
  float squares = 0.0f;
  for_rope_part<Layout>([&](int t, int h, int i) { squares += x.value[t][h][i] * x.value[t][h][i]; });
  return rsqrtf(rope_sum(place, squares) / static_cast<float>(2 * place.half) + eps);
}

// (a, b) to (a cos - b sin, b cos + a sin); backward: by the opposite angle.
template <class Layout, bool backward>
__device__ __forceinline__ void rope_rotate(const RopePart<Layout>& angles, RopePart<Layout>& x) {
#pragma unroll
  for (int turn = 0; turn < Layout::kTurns; ++turn)
#pragma unroll
    for (int i = 0; i < Layout::kWidth; ++i) {
      const float cosine = angles.value[turn][0][i];
      const float sine = backward ? -angles.value[turn][1][i] : angles.value[turn][1][i];
      const float a = x.value[turn][0][i], b = x.value[turn][1][i];
      x.value[turn][0][i] = a * cosine - b * sine;
      x.value[turn][1][i] = b * cosine + a * sine;
    }
}

// Which head of which row a unit is. Divisions of 64 bits are slow; the launchers see to it that 32 suffice.
struct RopeHead {
  int64_t row, column;  // of its first element
  const float* angles;
  __device__ __forceinline__ RopeHead(const RopeShape& shape, int64_t unit) {
    const auto heads = static_cast<uint32_t>(shape.heads);
    const uint32_t r = static_cast<uint32_t>(unit) / heads, head = static_cast<uint32_t>(unit) - r * heads;
    row = r;
    column = head * shape.head_dim;
    angles = shape.table + (shape.first_position + r % static_cast<uint32_t>(shape.time)) * shape.head_dim;
  }
};

template <class Layout, class T>
__global__ void __launch_bounds__(kRopeThreads)
    qk_norm_rope_forward_kernel(RopeShape shape, const T* input, int64_t input_stride, const T* weight,
                                T* output, int64_t output_stride, int lanes) {
  const RopePlace<Layout> place(shape.head_dim, lanes);
  const int64_t units = shape.rows * shape.heads;
  const bool there = place.first_unit() < units;  // the others take part in the shuffles
  const RopeHead head(shape, there ? place.first_unit() : units - 1);
  const RopeLoad<Layout, T> input_load(place, input + head.row * input_stride + head.column, there);
  const RopeLoad<Layout, T> weight_load(place, weight, weight != nullptr);
  const RopeLoad<Layout, float> angles_load(place, head.angles);
  RopePart<Layout> x = input_load.get();
  if (weight != nullptr) {
    const RopePart<Layout> w = weight_load.get();
    const float rstd = rope_rstd(place, x, shape.eps);
    for_rope_part<Layout>([&](int t, int h, int i) { x.value[t][h][i] *= rstd * w.value[t][h][i]; });
  }
  rope_rotate<Layout, false>(angles_load.get(), x);
  if (there) store_rope_part(place, output + head.row * output_stride + head.column, x);
}

// The rotation only.
template <class Layout, class T>
__global__ void __launch_bounds__(kRopeThreads)
    rope_backward_kernel(RopeShape shape, T* gradient, int64_t gradient_stride, int lanes) {
  const RopePlace<Layout> place(shape.head_dim, lanes);
  if (place.first_unit() >= shape.rows * shape.heads) return;
  const RopeHead head(shape, place.first_unit());
  T* to = gradient + head.row * gradient_stride + head.column;
  const RopeLoad<Layout, T> gradient_load(place, to);
  const RopeLoad<Layout, float> angles_load(place, head.angles);
  RopePart<Layout> dy = gradient_load.get();
  rope_rotate<Layout, true>(angles_load.get(), dy);
  store_rope_part(place, to, dy);
}

// The lane groups of the block add their parts to `sums` in turn.
template <class Layout>
__device__ __forceinline__ void add_rope_parts(const RopePlace<Layout>& place, const RopePart<Layout>& part,
                                               float* sums) {
  for (int group = 0; group < kRopeThreads / place.lanes; ++group) {
    if (static_cast<int>(threadIdx.x) / place.lanes == group)
      for_rope_part<Layout>([&](int t, int h, int i) {
        if (!place.here(t)) return;
        float& sum = sums[h * place.half + place.offset(t) + i];
        sum = group == 0 ? part.value[t][h][i] : sum + part.value[t][h][i];
      });
    __syncthreads();
  }
}

// Rotation, then the norm's backward pass: with g = weight * dy and n = x * rstd, dx = rstd * (g - n mean(g
// n)). dweight, the sum of dy n, is summed over the units of a lane, then of the block, into its row of
// partials.
template <class Layout, class T>
__global__ void __launch_bounds__(kRopeThreads)
    qk_norm_rope_backward_kernel(RopeShape shape, const T* input, int64_t input_stride, const T* weight,
                                 T* gradient, int64_t gradient_stride, float* partials, int lanes) {
  DEVICE_SHARED(float, sums, [kMaximumRopeHeadDim]);
  const RopePlace<Layout> place(shape.head_dim, lanes);
  const int64_t units = shape.rows * shape.heads, step = gridDim.x * place.units_per_block();
  const RopePart<Layout> w = RopeLoad<Layout, T>(place, weight).get();
  RopePart<Layout> dweight{};
  for (int64_t base = blockIdx.x * place.units_per_block(); base < units; base += step) {
    const int64_t unit = base + static_cast<int>(threadIdx.x) / lanes;
    const bool there = unit < units;  // the others take part in the shuffles
    const RopeHead head(shape, there ? unit : units - 1);
    T* to = gradient + head.row * gradient_stride + head.column;
    const RopeLoad<Layout, T> input_load(place, input + head.row * input_stride + head.column, there);
    const RopeLoad<Layout, T> gradient_load(place, to, there);
    const RopeLoad<Layout, float> angles_load(place, head.angles);
    const RopePart<Layout> x = input_load.get();
    RopePart<Layout> dy = gradient_load.get();
    rope_rotate<Layout, true>(angles_load.get(), dy);
    const float rstd = rope_rstd(place, x, shape.eps);
    float inner = 0.0f;
    for_rope_part<Layout>(
        [&](int t, int h, int i) { inner += w.value[t][h][i] * dy.value[t][h][i] * x.value[t][h][i]; });
    const float mean = rope_sum(place, inner) * rstd / static_cast<float>(shape.head_dim);
    for_rope_part<Layout>([&](int t, int h, int i) {
      const float n = x.value[t][h][i] * rstd, d = dy.value[t][h][i];
      dweight.value[t][h][i] += d * n;
      dy.value[t][h][i] = rstd * (w.value[t][h][i] * d - n * mean);
    });
    if (there) store_rope_part(place, to, dy);
  }
  add_rope_parts(place, dweight, sums);
  for (int64_t j = threadIdx.x; j < shape.head_dim; j += kRopeThreads)
    partials[blockIdx.x * shape.head_dim + j] = sums[j];
}

// --- launchers ---

// The lanes of a head: a power of two that covers the pieces of a half.
inline int rope_lanes(int64_t pieces) {
  int lanes = 1;
  while (lanes < pieces && lanes < kWarpSize) lanes *= 2;
  return lanes;
}
inline unsigned rope_blocks(int64_t units, int lanes) {
  return static_cast<unsigned>(divide_up(units, kRopeThreads / lanes));
}
inline bool valid_rope_shape(const RopeShape& shape) {
  return shape.head_dim > 0 && shape.head_dim % 2 == 0 && shape.head_dim <= kMaximumRopeHeadDim &&
         shape.rows * shape.heads < int64_t{1} << 31 && shape.time < int64_t{1} << 31;
}
// May halves of heads be read in 16-byte pieces?
template <class T>
bool rope_in_pieces(const RopeShape& shape, const T* x, int64_t stride) {
  return shape.head_dim / 2 % kPiece<T> == 0 && shape.head_dim / 2 / kPiece<T> <= kWarpSize &&
         pieces_aligned(x, stride) && pieces_aligned(shape.table);
}

template <class T>
cudaError_t qk_norm_rope_forward(const RopeShape& shape, const T* input, int64_t input_stride,
                                 const T* weight, T* output, int64_t output_stride, cudaStream_t stream) {
  if (!valid_rope_shape(shape)) return cudaErrorInvalidValue;
  const auto launch = [&]<class Layout>(Layout) {
    const int lanes = rope_lanes(divide_up(shape.head_dim / 2, Layout::kWidth));
    return device_launch(LaunchConfig(rope_blocks(shape.rows * shape.heads, lanes), kRopeThreads, 0, stream),
                         &qk_norm_rope_forward_kernel<Layout, T>, shape, input, input_stride, weight, output,
                         output_stride, lanes);
  };
  const bool pieces = rope_in_pieces(shape, input, input_stride) &&
                      rope_in_pieces(shape, output, output_stride) && pieces_aligned(weight);
  return pieces ? launch(RopePieces<T>{}) : launch(RopeSingles{});
}

// Blocks of the backward pass with norm, whatever the layout of heads: the shape alone decides.
inline int64_t rope_backward_blocks(int64_t rows, int64_t heads) {
  return row_blocks(rows * heads);
}

template <class T>
cudaError_t qk_norm_rope_backward(const RopeShape& shape, const T* input, int64_t input_stride,
                                  const T* weight, T* gradient, int64_t gradient_stride, float* dweight,
                                  float* partials, cudaStream_t stream) {
  if (!valid_rope_shape(shape)) return cudaErrorInvalidValue;
  const int64_t units = shape.rows * shape.heads;
  if (units == 0) return cudaSuccess;
  const int64_t blocks = rope_backward_blocks(shape.rows, shape.heads);
  const auto launch = [&]<class Layout>(Layout) {
    const int lanes = rope_lanes(divide_up(shape.head_dim / 2, Layout::kWidth));
    if (weight == nullptr)
      return device_launch(LaunchConfig(rope_blocks(units, lanes), kRopeThreads, 0, stream),
                           &rope_backward_kernel<Layout, T>, shape, gradient, gradient_stride, lanes);
    return device_launch(LaunchConfig(static_cast<unsigned>(blocks), kRopeThreads, 0, stream),
                         &qk_norm_rope_backward_kernel<Layout, T>, shape, input, input_stride, weight,
                         gradient, gradient_stride, partials, lanes);
  };
  const bool pieces =
      rope_in_pieces(shape, gradient, gradient_stride) &&
      (weight == nullptr || (rope_in_pieces(shape, input, input_stride) && pieces_aligned(weight)));
  const cudaError_t status = pieces ? launch(RopePieces<T>{}) : launch(RopeSingles{});
  if (status != cudaSuccess || weight == nullptr) return status;
  return add_partials(partials, blocks, shape.head_dim, dweight, stream);
}

int64_t qk_norm_rope_backward_partials(int64_t rows, int64_t heads, int64_t head_dim) {
  return rope_backward_blocks(rows, heads) * head_dim;
}

#define INSTANTIATE(T)                                                                                      \
  template cudaError_t qk_norm_rope_forward<T>(const RopeShape&, const T*, int64_t, const T*, T*, int64_t,  \
                                               cudaStream_t);                                               \
  template cudaError_t qk_norm_rope_backward<T>(const RopeShape&, const T*, int64_t, const T*, T*, int64_t, \
                                                float*, float*, cudaStream_t);
INSTANTIATE(float)
INSTANTIATE(bf16)
#undef INSTANTIATE

}  // namespace polar::kernels
