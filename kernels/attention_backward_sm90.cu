// Attention, backward, for Hopper: kernels 2 and 3 of attention_backward.cu in bf16 for head widths of 64 and
// 128, with wgmma and TMA. Same arguments, results `=`; the terms of the queries (kernel 1) are in the
// workspace.
//
// One launch has blocks of two kinds: those that own keys and compute dk and dv, and those that own queries
// and compute dq, which fill the multiprocessors that the longest of the others (few, with grouped heads)
// leave. A block has three warpgroups: one thread of the first lets the TMA engine copy tiles into a ring of
// buffers, the two others own 64 rows each and keep all sums in registers. S, dP and what becomes of them
// never leave the registers either: they are accumulators of one product and, rounded, the left operand of
// the next.
//   keys:     S^T = K Q^T and dP^T = V dO^T, then dV += P^T dO and dK += dS^T Q;
//   queries:  S = Q K^T and dP = dO V^T, then dQ += dS K.
// Exponentials are computed while dP is multiplied, dS while dV is (keys), or the next exponentials while dQ
// is (queries); the two warpgroups fill each other's gaps.
//
// Floor: that of the portable kernels, 14 D FLOPs for every (query, key) that the mask shows and every head,
// of which 4 D are the price of owning every output: S and dP are computed twice. A multiprocessor holds one
// block (12 of 64 warps): its registers are given out in full, and shared memory is 161 and 195 KiB for
// widths of 64 and 128.
#include <algorithm>

#include "attention_backward_keys_sm90.cuh"
#include "attention_backward_queries_sm90.cuh"

namespace polar::kernels {

template <int kHeadDim>
__global__ void __launch_bounds__(kBackwardThreads, 1)
    attention_backward_sm90_kernel(const __grid_constant__ HopperBackwardMaps maps,
                                   const AttentionBackwardArguments<bf16> args) {
#ifdef DEVICE_HAS_SM90A
  DEVICE_DYNAMIC_SHARED(memory);
  const HopperKeysShared<kHeadDim> keys(memory);
  const HopperQueriesShared<kHeadDim> queries(memory);
  const AttentionSizes& sizes = args.sizes;
  const int block = static_cast<int>(blockIdx.x),
            key_blocks = sizes.batch * sizes.heads_kv * owned_tiles(sizes);
  const bool owns_keys = block < key_blocks;
  if (owns_keys)
    prepare_keys(sizes, keys, block);
  else
    prepare_queries(args, queries, block - key_blocks);
  __syncthreads();
  if (threadIdx.x < kWarpgroup) {
    set_maximum_registers_down<kProducerRegisters>();
    if (threadIdx.x == 0) {
      if (owns_keys)
        copy_queries(maps, args, keys);
      else
        copy_keys(maps, queries, sizes.heads_q / sizes.heads_kv);
    }
  } else {
    set_maximum_registers_up<kConsumerRegisters>();
    if (owns_keys)
      compute_keys(args, keys);
    else
      compute_queries(args, queries);
  }
#endif
}

template <int kHeadDim>
cudaError_t launch_backward_sm90(const AttentionBackwardArguments<bf16>& args, cudaStream_t stream) {
  const AttentionSizes& sizes = args.sizes;
  HopperBackwardMaps maps;
  const auto map = [&](CUtensorMap* to, const AttentionRows<const bf16>& rows, int heads) {
    return attention_tensor_map(to, rows, sizes.batch, sizes.query_time, heads * kHeadDim, 64);
  };
  constexpr size_t kSharedBytes =
      std::max(HopperKeys<kHeadDim>::kSharedBytes, HopperQueries<kHeadDim>::kSharedBytes);
  const auto kernel = &attention_backward_sm90_kernel<kHeadDim>;
  cudaError_t status = map(&maps.q, args.q, sizes.heads_q);
  if (status == cudaSuccess) status = map(&maps.doutput, args.doutput, sizes.heads_q);
  if (status == cudaSuccess) status = map(&maps.k, args.k, sizes.heads_kv);
  if (status == cudaSuccess) status = map(&maps.v, args.v, sizes.heads_kv);
  if (status == cudaSuccess) status = device_allow_dynamic_shared(kernel, kSharedBytes);
  if (status != cudaSuccess) return status;
  const int blocks = sizes.batch * (sizes.heads_kv + sizes.heads_q) * owned_tiles(sizes);
  return device_launch(LaunchConfig(static_cast<unsigned>(blocks), kBackwardThreads, kSharedBytes, stream),
                       kernel, maps, args);
}

bool has_attention_backward_sm90(int head_dim) {
  return (head_dim == 64 || head_dim == 128) && on_hopper();
}

cudaError_t attention_backward_sm90(const AttentionBackwardArguments<bf16>& args, cudaStream_t stream) {
  return args.sizes.head_dim == 64 ? launch_backward_sm90<64>(args, stream)
                                   : launch_backward_sm90<128>(args, stream);
}

}  // namespace polar::kernels
