// The polar products for Hopper: what polar_products.cu computes in bf16, with wgmma and TMA. Same results
// `=`, same floor. Rows of all operands have to be whole 16-byte pieces.
//
// A block computes a tile of 128 x 128. One thread lets the TMA engine copy slices of both operands, 64 of
// the inner dimension, into a ring of buffers; two warpgroups multiply, 64 rows each. Two blocks share a
// multiprocessor, so that one multiplies while the other writes its tile.
#include "hopper.h"
#include "polar_tile.cuh"
#include "ptx_sm90.cuh"
#include "tensor_map.h"

namespace polar::kernels {

struct HopperProduct {
  static constexpr int kWarpgroup = 128, kConsumerThreads = 2 * kWarpgroup;
  static constexpr int kThreads = kConsumerThreads + kWarpSize;
  static constexpr int kDepth = 64, kStages = 3;
  static constexpr int kOperand = kPolarEdge * kDepth;  // elements of a slice of one operand
  static constexpr uint32_t kStageBytes = 2 * kOperand * 2;
  static constexpr size_t kSharedBytes = kStages * kStageBytes + 2 * kStages * sizeof(uint64_t);
};

struct HopperProductMaps {
  CUtensorMap a, b;
};

#ifdef DEVICE_HAS_SM90A

// Starts to copy the slice from row or column `first` and from `k` of one operand. What is not contiguous in
// k comes as two panels of 64 rows or columns.
template <Major kMajor>
__device__ __forceinline__ void copy_slice(bf16* to, const CUtensorMap* map, uint64_t* full, int first, int k,
                                           int matrix) {
  if constexpr (kMajor == Major::k) {
    tma_load_3d(to, map, full, k, first, matrix);
  } else {
    tma_load_3d(to, map, full, first, k, matrix);
    tma_load_3d(to + 64 * HopperProduct::kDepth, map, full, first + 64, k, matrix);
  }
}

// The descriptor of 64 or 128 rows or columns of a slice, from row or column 64 * panel on, and how far the
// next 16 of k are.
template <Major kMajor>
__device__ __forceinline__ uint64_t slice_descriptor(const bf16* slice, int panel) {
  constexpr uint32_t kPanelBytes = 64 * HopperProduct::kDepth * 2;
  return wgmma_descriptor(slice + panel * 64 * HopperProduct::kDepth, kMajor == Major::k ? 16 : kPanelBytes);
}
template <Major kMajor>
constexpr uint64_t kDescriptorStep = kMajor == Major::k ? 2 : 128;

template <Major kMajorA, Major kMajorB, bool kSymmetric>
__device__ __forceinline__ void multiply_and_finish(const BatchedProduct<bf16>& args,
                                                    const ProductPart<bf16>& part, bf16* stages,
                                                    uint64_t* full, uint64_t* empty, int slices) {
  using Tiling = HopperProduct;
  const int thread = static_cast<int>(threadIdx.x), consumer = thread / Tiling::kWarpgroup;
  float d[64];
#pragma unroll
  for (int i = 0; i < 64; ++i) d[i] = 0.0f;
  for (int slice = 0; slice < slices; ++slice) {
    const int stage = slice % Tiling::kStages;
    const bf16* from = stages + stage * 2 * Tiling::kOperand;
    mbarrier_wait(full + stage, static_cast<uint32_t>(slice / Tiling::kStages) & 1);
    const uint64_t a = slice_descriptor<kMajorA>(from, consumer);
    const uint64_t b = slice_descriptor<kMajorB>(from + Tiling::kOperand, 0);
    wgmma_hold(d);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < Tiling::kDepth / 16; ++step)
      wgmma_m64n128k16<kMajorB, kMajorA>(d, a + static_cast<uint64_t>(step) * kDescriptorStep<kMajorA>,
                                         b + static_cast<uint64_t>(step) * kDescriptorStep<kMajorB>, true);
    wgmma_commit();
    wgmma_wait<1>();  // the slice before has been read
    if (slice > 0 && lane_index() == 0) mbarrier_arrive(empty + (slice - 1) % Tiling::kStages);
  }
  wgmma_wait<0>();
  wgmma_hold(d);

  const auto barrier = [] { named_barrier_sync(1, Tiling::kConsumerThreads); };
  const ResultTile<bf16> result{stages};
  barrier();  // both warpgroups have read their slices
  if (part.addend != nullptr) {
    copy_addend<true, Tiling::kConsumerThreads>(args, part, result, thread);
    barrier();
  }
  float product[1][16][4];
#pragma unroll
  for (int i = 0; i < 64; ++i) product[0][i / 4][i % 4] = d[i];
  combine(result, thread / kWarpSize * 16, 0, args.alpha, args.beta, part.addend != nullptr, product);
  finish_tile<kSymmetric, true, Tiling::kConsumerThreads>(args, part, result, thread, barrier);
}

#endif  // DEVICE_HAS_SM90A

template <Major kMajorA, Major kMajorB, bool kSymmetric>
__global__ void __launch_bounds__(HopperProduct::kThreads, 2)
    polar_product_sm90_kernel(const __grid_constant__ HopperProductMaps maps,
                              const BatchedProduct<bf16> args) {
#ifdef DEVICE_HAS_SM90A
  using Tiling = HopperProduct;
  DEVICE_DYNAMIC_SHARED(memory);
  bf16* const stages = reinterpret_cast<bf16*>(memory);
  uint64_t* const full = reinterpret_cast<uint64_t*>(memory + Tiling::kStages * Tiling::kStageBytes);
  uint64_t* const empty = full + Tiling::kStages;
  const auto part = ProductPart<bf16>::of<kSymmetric>(args);
  const int slices = (args.depth + Tiling::kDepth - 1) / Tiling::kDepth;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Tiling::kStages; ++i) {
      mbarrier_init(full + i, 1);
      mbarrier_init(empty + i, Tiling::kConsumerThreads / kWarpSize);
    }
    mbarrier_fence_init();
  }
  __syncthreads();
  if (threadIdx.x < Tiling::kConsumerThreads) {
    multiply_and_finish<kMajorA, kMajorB, kSymmetric>(args, part, stages, full, empty, slices);
  } else if (threadIdx.x == Tiling::kConsumerThreads) {
    for (int slice = 0; slice < slices; ++slice) {
      const int stage = slice % Tiling::kStages, k = slice * Tiling::kDepth;
      const int matrix = static_cast<int>(blockIdx.y);
      bf16* to = stages + stage * 2 * Tiling::kOperand;
      mbarrier_wait(empty + stage, (static_cast<uint32_t>(slice / Tiling::kStages) & 1) ^ 1);
      mbarrier_arrive_expect(full + stage, Tiling::kStageBytes);
      copy_slice<kMajorA>(to, &maps.a, full + stage, part.first_row, k, matrix);
      copy_slice<kMajorB>(to + Tiling::kOperand, &maps.b, full + stage, part.first_col, k, matrix);
    }
  }
#endif
}

// --- launchers ---

// A map of operand `data`, of which `count` rows or columns meet `depth`.
static cudaError_t operand_map(CUtensorMap* map, Major major, const bf16* data, int64_t batch, int count,
                               int depth, int64_t stride, int64_t matrix) {
  return major == Major::k
             ? make_tensor_map(map, data, batch, count, depth, stride, matrix, kPolarEdge)
             : make_tensor_map(map, data, batch, depth, count, stride, matrix, HopperProduct::kDepth);
}

template <Major kMajorA, Major kMajorB, bool kSymmetric>
cudaError_t launch_sm90(const BatchedProduct<bf16>& args, int64_t batch, cudaStream_t stream) {
  using Tiling = HopperProduct;
  HopperProductMaps maps;
  cudaError_t status =
      operand_map(&maps.a, kMajorA, args.a, batch, args.rows, args.depth, args.a_stride, args.a_matrix);
  if (status == cudaSuccess)
    status =
        operand_map(&maps.b, kMajorB, args.b, batch, args.cols, args.depth, args.b_stride, args.b_matrix);
  const auto kernel = &polar_product_sm90_kernel<kMajorA, kMajorB, kSymmetric>;
  if (status == cudaSuccess) status = device_allow_dynamic_shared(kernel, Tiling::kSharedBytes);
  if (status != cudaSuccess) return status;
  const LaunchConfig launch(product_grid<kSymmetric>(args, batch), Tiling::kThreads, Tiling::kSharedBytes,
                            stream);
  return device_launch(launch, kernel, maps, args);
}

bool has_polar_products_sm90() {
  return on_hopper();
}

cudaError_t polar_product_sm90(PolarProduct kind, const BatchedProduct<bf16>& args, int64_t batch,
                               cudaStream_t stream) {
  switch (kind) {
    case PolarProduct::symmetric_by_row:
      return launch_sm90<Major::k, Major::k, true>(args, batch, stream);
    case PolarProduct::symmetric_by_column:
      return launch_sm90<Major::mn, Major::mn, true>(args, batch, stream);
    default:
      return launch_sm90<Major::k, Major::mn, false>(args, batch, stream);
  }
}

}  // namespace polar::kernels
