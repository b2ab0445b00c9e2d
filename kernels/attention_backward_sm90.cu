// Attention, backward, for Hopper: kernels 2 and 3 of attention_backward.cu in bf16 for head widths of 64 and
// 128, with wgmma and TMA. Same arguments, results `=`; the terms of the queries (kernel 1) are in the
// workspace.
//
// In both kernels a block has three warpgroups: one thread of the first lets the TMA engine copy tiles into a
// ring of buffers, the two others own 64 rows each of what the block owns and keep all sums in registers. S,
// dP and what becomes of them never leave the registers either: they are accumulators of one product and,
// rounded, the left operand of the next.
//   2. rows are keys: S^T = K Q^T and dP^T = V dO^T, then dV += P^T dO and dK += dS^T Q;
//   3. rows are queries: S = Q K^T and dP = dO V^T, then dQ += dS K.
// The exponentials of a tile are computed while its dP is multiplied, dS while dV is (2), or the next
// scores and exponentials while dQ is (3); the two warpgroups fill each other's gaps.
//
// Floor: that of the portable kernels, 14 D FLOPs for every (query, key) that the mask shows and every head,
// of which 4 D are the price of owning every output: S and dP are computed twice. A multiprocessor holds one
// block (12 of 64 warps): its registers are given out in full, shared memory is 99 and 195 KiB (2), 161 and
// 193 KiB (3) for widths of 64 and 128.
#include "attention_backward_keys_sm90.cuh"
#include "attention_backward_queries_sm90.cuh"

namespace polar::kernels {

template <int kHeadDim>
cudaError_t launch_backward_sm90(const AttentionBackwardArguments<bf16>& args, cudaStream_t stream) {
  const AttentionSizes& sizes = args.sizes;
  const int columns_q = sizes.heads_q * kHeadDim, columns_kv = sizes.heads_kv * kHeadDim;
  const auto launch = [&](auto tiling, auto kernel, int block_rows, int heads) {
    using Tiling = decltype(tiling);
    HopperBackwardMaps maps;
    const auto map = [&](CUtensorMap* to, const AttentionRows<const bf16>& rows, int columns, int tile_rows) {
      return attention_tensor_map(to, rows, sizes.batch, sizes.query_time, columns, tile_rows);
    };
    cudaError_t status = map(&maps.q, args.q, columns_q, Tiling::kQueries);
    if (status == cudaSuccess) status = map(&maps.doutput, args.doutput, columns_q, Tiling::kQueries);
    if (status == cudaSuccess) status = map(&maps.k, args.k, columns_kv, Tiling::kKeys);
    if (status == cudaSuccess) status = map(&maps.v, args.v, columns_kv, Tiling::kKeys);
    if (status == cudaSuccess) status = device_allow_dynamic_shared(kernel, Tiling::kSharedBytes);
    if (status != cudaSuccess) return status;
    const dim3 grid(static_cast<unsigned>(sizes.batch) * static_cast<unsigned>(heads),
                    static_cast<unsigned>((sizes.query_time + block_rows - 1) / block_rows));
    return device_launch(LaunchConfig(grid, Tiling::kThreads, Tiling::kSharedBytes, stream), kernel, maps,
                         args);
  };
  const cudaError_t status = launch(HopperKeys<kHeadDim>{}, &attention_backward_keys_sm90_kernel<kHeadDim>,
                                    HopperKeys<kHeadDim>::kKeys, sizes.heads_kv);
  if (status != cudaSuccess) return status;
  return launch(HopperQueries<kHeadDim>{}, &attention_backward_queries_sm90_kernel<kHeadDim>,
                HopperQueries<kHeadDim>::kQueries, sizes.heads_q);
}

bool has_attention_backward_sm90(int head_dim) {
  return (head_dim == 64 || head_dim == 128) && on_hopper();
}

cudaError_t attention_backward_sm90(const AttentionBackwardArguments<bf16>& args, cudaStream_t stream) {
  return args.sizes.head_dim == 64 ? launch_backward_sm90<64>(args, stream)
                                   : launch_backward_sm90<128>(args, stream);
}

}  // namespace polar::kernels
