// polartrain bench attention: forward and backward of a layer's attention. The FLOPs are those of the floors
// that the kernels state: 4 D forward and 14 D backward for every query, every key that it sees and every
// head (10 D of the 14 D are needed; 4 D are the price of owning every output).
#include <cmath>

#include "bench.h"

namespace polar::bench {
namespace {

// Pairs of a query and a key that it sees, of one head of one sequence.
double visible_pairs(int64_t time, int64_t window) {
  double pairs = 0.0;
  for (int64_t i = 0; i < time; ++i)
    pairs += static_cast<double>(window > 0 ? std::min(i + 1, window) : i + 1);
  return pairs;
}

void attention(Ops& ops, Report& report, DType dtype, const AttentionShape& shape) {
  const int64_t rows = shape.batch * shape.query_time, q_width = shape.heads_q * shape.head_dim,
                kv_width = shape.heads_kv * shape.head_dim;
  Buffers memory(ops);
  const auto add = [&](int64_t width) { return memory.add(dtype, {rows, width}); };
  const BufferId q = add(q_width), k = add(kv_width), v = add(kv_width), out = add(q_width),
                 dout = add(q_width), dq = add(q_width), dk = add(kv_width), dv = add(kv_width),
                 lse = memory.add(DType::f32, {shape.batch, shape.heads_q, shape.query_time});
  const auto bytes = static_cast<int64_t>(ops.attention_workspace(shape, dtype));
  const BufferId workspace = memory.add(DType::f32, {bytes / 4 + 1});
  memory.allocate();
  const double pairs = visible_pairs(shape.query_time, shape.window) *
                       static_cast<double>(shape.batch * shape.heads_q * shape.head_dim);
  const std::string name = fmt::format("{} x {}, heads {}/{} x {}", shape.batch, shape.query_time,
                                       shape.heads_q, shape.heads_kv, shape.head_dim);
  const AttentionForward forward{shape, memory[q],   memory[k],   memory[v],
                                 {},    memory[out], memory[lse], memory[workspace]};
  report.row(ops, "forward " + name, 4.0 * pairs, [&] { ops.attention_forward(forward); });
  const AttentionBackward backward{shape,      memory[q],   memory[k],    memory[v],
                                   {},         memory[out], memory[dout], memory[lse],
                                   memory[dq], memory[dk],  memory[dv],   memory[workspace]};
  report.row(ops, "backward " + name, 14.0 * pairs, [&] { ops.attention_backward(backward); });
}

}  // namespace

ExitCode bench_attention(const Options& options) {
  const auto ops = open_device(options);
  const Sizes sizes = sizes_of(options, *ops);
  Report report(*ops, sizes, Report::Unit::flops, gemm_peak(*ops, options, sizes.dtype), options);
  AttentionShape shape;
  shape.batch = sizes.batch;
  shape.query_time = shape.key_time = sizes.time;
  shape.heads_q = sizes.model.num_attention_heads;
  shape.heads_kv = sizes.model.num_key_value_heads;
  shape.head_dim = sizes.model.head_dim;
  shape.window = sizes.model.sliding_window;
  shape.scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim));
  attention(*ops, report, sizes.dtype, shape);
  if (options.config.empty()) {  // and the other width that models have, at the same number of products
    shape.head_dim = 128;
    shape.heads_q = shape.heads_kv * std::max<int64_t>(1, shape.heads_q / shape.heads_kv / 2);
    shape.scale = 1.0 / std::sqrt(static_cast<double>(shape.head_dim));
    attention(*ops, report, sizes.dtype, shape);
    if (!ops->host_memory()) {  // long sequences, the same number of tokens
      shape.batch /= 4;
      shape.query_time = shape.key_time = 4 * sizes.time;
      attention(*ops, report, sizes.dtype, shape);
    }
  }
  return report.print();
}

}  // namespace polar::bench
