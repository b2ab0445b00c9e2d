// polartrain bench kernels: the operations that are bound by memory. Bytes are those of the floors that the
// kernels state: every operand read or written once.
#include "base/random.h"
#include "bench.h"
#include "model/model.h"

namespace polar::bench {
namespace {

// One benchmark's surroundings.
struct Bench {
  Ops& ops;
  const Sizes& sizes;
  Report& report;
  double element() const { return static_cast<double>(size_of(sizes.dtype)); }
  void row(const std::string& name, double bytes, const std::function<void()>& run) const {
    report.row(ops, name, bytes, run);
  }
};

double product(int64_t a, int64_t b) {
  return static_cast<double>(a) * static_cast<double>(b);
}

void norms(const Bench& bench) {
  const int64_t n = bench.sizes.rows(), c = bench.sizes.model.hidden_size;
  const DType t = bench.sizes.dtype;
  Buffers memory(bench.ops);
  const BufferId input = memory.add(t, {n, c}), residual = memory.add(t, {n, c}), sum = memory.add(t, {n, c}),
                 output = memory.add(t, {n, c}), weight = memory.add(t, {c}),
                 rstd = memory.add(DType::f32, {n}), dweight = memory.add(DType::f32, {c});
  const auto bytes = static_cast<int64_t>(bench.ops.rms_norm_backward_workspace(n, c, t));
  const BufferId workspace = memory.add(DType::f32, {bytes / 4 + 1});
  memory.allocate();
  const double elements = product(n, c), e = bench.element();
  const double small = 4.0 * static_cast<double>(n) + e * static_cast<double>(c);  // rstd, weight
  const RmsNormForward plain{memory[input], {}, {}, memory[weight], 1e-6, memory[output], memory[rstd]};
  bench.row("rms_norm_forward", 2.0 * e * elements + small, [&] { bench.ops.rms_norm_forward(plain); });
  const RmsNormForward joined{memory[input], memory[residual], memory[sum], memory[weight],
                              1e-6,          memory[output],   memory[rstd]};
  bench.row("rms_norm_forward, residual", 4.0 * e * elements + small,
            [&] { bench.ops.rms_norm_forward(joined); });
  // A gradient of zeros: the sum that it is added to stays finite however often this runs.
  bench.ops.fill(memory[output], 0.0);
  const RmsNormBackward backward{memory[output],   memory[sum],     memory[weight],   memory[rstd],
                                 memory[residual], memory[dweight], memory[workspace]};
  bench.row("rms_norm_backward", 4.0 * e * elements + small, [&] { bench.ops.rms_norm_backward(backward); });
}

void rope(const Bench& bench) {
  const ModelConfig& model = bench.sizes.model;
  const int64_t n = bench.sizes.rows(), heads = model.num_attention_heads, d = model.head_dim;
  const bool norm = model.architecture == Architecture::qwen3;
  const DType t = bench.sizes.dtype;
  Buffers memory(bench.ops);
  const BufferId input = memory.add(t, {n, heads * d}), output = memory.add(t, {n, heads * d}),
                 weight = memory.add(t, {d}), dweight = memory.add(DType::f32, {d}),
                 table = memory.add(DType::f32, {bench.sizes.time, d});
  const auto bytes = static_cast<int64_t>(bench.ops.qk_norm_rope_backward_workspace(n, heads, d, t));
  const BufferId workspace = memory.add(DType::f32, {bytes / 4 + 1});
  memory.allocate();
  write_rope_table(bench.ops, memory[table], 1e6);
  QkNormRope common;
  common.time = bench.sizes.time;
  common.heads = heads;
  common.head_dim = d;
  common.eps = 1e-6;
  common.rope_table = memory[table];
  const QkNormRopeForward forward{common, memory[input], norm ? memory[weight] : Tensor{}, memory[output]};
  const double elements = bench.element() * product(n, heads * d);
  const std::string name = norm ? "qk_norm_rope" : "rope";
  bench.row(name + "_forward, queries", 2.0 * elements, [&] { bench.ops.qk_norm_rope_forward(forward); });
  bench.ops.fill(memory[output], 0.0);  // in place: a gradient that stays what it is
  const QkNormRopeBackward backward{common,
                                    memory[input],
                                    norm ? memory[weight] : Tensor{},
                                    memory[output],
                                    norm ? memory[dweight] : Tensor{},
                                    memory[workspace]};
  bench.row(name + "_backward, queries", (norm ? 3.0 : 2.0) * elements,
            [&] { bench.ops.qk_norm_rope_backward(backward); });
}

void swiglu(const Bench& bench) {
  const int64_t n = bench.sizes.rows(), width = bench.sizes.model.intermediate_size;
  const DType t = bench.sizes.dtype;
  Buffers memory(bench.ops);
  const BufferId gate_up = memory.add(t, {n, 2 * width}), out = memory.add(t, {n, width}),
                 gradient = memory.add(t, {n, 2 * width});
  memory.allocate();
  const double elements = bench.element() * product(n, width);
  bench.row("swiglu_forward", 3.0 * elements,
            [&] { bench.ops.swiglu_forward(memory[gate_up], memory[out]); });
  bench.row("swiglu_backward", 5.0 * elements,
            [&] { bench.ops.swiglu_backward(memory[out], memory[gate_up], memory[gradient]); });
}

void embedding(const Bench& bench) {
  const int64_t n = bench.sizes.rows(), c = bench.sizes.model.hidden_size,
                vocabulary = bench.sizes.model.vocab_size;
  Buffers memory(bench.ops);
  const BufferId ids = memory.add(DType::i32, {n}), out = memory.add(bench.sizes.dtype, {n, c}),
                 table = memory.add(bench.sizes.dtype, {vocabulary, c}),
                 dtable = memory.add(DType::f32, {vocabulary, c});
  const auto bytes = static_cast<int64_t>(bench.ops.embedding_backward_workspace(n));
  const BufferId workspace = memory.add(DType::f32, {bytes / 4 + 1});
  memory.allocate();
  std::vector<int32_t> values(static_cast<size_t>(n));
  std::vector<bool> met(static_cast<size_t>(vocabulary));
  double different = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto id = static_cast<size_t>(random_bits(1, 3, i) % static_cast<uint64_t>(vocabulary));
    values[i] = static_cast<int32_t>(id);
    different += met[id] ? 0.0 : 1.0;
    met[id] = true;
  }
  bench.ops.upload(memory[ids], values.data());
  const double elements = bench.element() * product(n, c), width = static_cast<double>(c);
  bench.row("embedding_forward", bench.element() * different * width + elements,
            [&] { bench.ops.embedding_forward(memory[ids], memory[table], memory[out]); });
  bench.row("embedding_backward", elements + 8.0 * different * width, [&] {
    bench.ops.embedding_backward(memory[ids], memory[out], memory[dtable], memory[workspace]);
  });
}

void bias(const Bench& bench) {
  const int64_t n = bench.sizes.rows(), c = bench.sizes.query_width() + 2 * bench.sizes.key_width();
  Buffers memory(bench.ops);
  const BufferId y = memory.add(bench.sizes.dtype, {n, c}), weight = memory.add(bench.sizes.dtype, {c}),
                 dbias = memory.add(DType::f32, {c});
  memory.allocate();
  bench.ops.fill(memory[weight], 0.0);
  const double elements = bench.element() * product(n, c);
  bench.row("add_bias", 2.0 * elements, [&] { bench.ops.add_bias(memory[y], memory[weight]); });
  bench.row("bias_backward", elements, [&] { bench.ops.bias_backward(memory[y], memory[dbias]); });
}

// The parameters of one layer's MLP.
void updates(const Bench& bench) {
  const int64_t count = 3 * bench.sizes.model.hidden_size * bench.sizes.model.intermediate_size;
  const bool rounded = bench.sizes.dtype == DType::bf16;
  Buffers memory(bench.ops);
  const auto flat = [&](DType dtype) { return memory.add(dtype, {count}); };
  const BufferId parameter = flat(DType::f32), gradient = flat(DType::f32), m = flat(DType::f32),
                 v = flat(DType::f32), direction = flat(bench.sizes.dtype), weight = flat(bench.sizes.dtype),
                 control = memory.add(DType::f64, {kControlSize}),
                 lr = memory.add(DType::f64, {1});  // 0: nothing moves
  memory.allocate();
  bench.ops.fill(memory[v], 1.0);
  upload_control(bench.ops, memory[control]);
  const auto elements = static_cast<double>(count);
  const double copy = rounded ? 2.0 : 0.0, e = bench.element();
  AdamW adamw;
  adamw.parameter = memory[parameter];
  adamw.gradient = memory[gradient];
  adamw.m = memory[m];
  adamw.v = memory[v];
  adamw.lr = memory[lr];
  adamw.control = memory[control];
  if (rounded) adamw.weight = memory[weight];
  bench.row("adamw", (28.0 + copy) * elements, [&] { bench.ops.adamw(adamw); });
  MomentumUpdate momentum;
  momentum.gradient = memory[gradient];
  momentum.buffer = memory[m];
  momentum.out = memory[direction];
  momentum.nesterov = true;
  momentum.control = memory[control];
  bench.row("momentum_update", (12.0 + e) * elements, [&] { bench.ops.momentum_update(momentum); });
  MatrixUpdate update;
  update.parameter = memory[parameter];
  update.direction = memory[direction];
  update.lr = memory[lr];
  update.control = memory[control];
  if (rounded) update.weight = memory[weight];
  bench.row("matrix_update", (8.0 + e + copy) * elements, [&] { bench.ops.matrix_update(update); });
}

void flat(const Bench& bench) {
  const int64_t count = bench.sizes.rows() * bench.sizes.model.intermediate_size;
  Buffers memory(bench.ops);
  const BufferId x = memory.add(bench.sizes.dtype, {count}), y = memory.add(bench.sizes.dtype, {count}),
                 wide = memory.add(DType::f32, {count}), out = memory.add(DType::f64, {1});
  memory.allocate();
  const auto elements = static_cast<double>(count);
  const double e = bench.element();
  bench.row("fill", e * elements, [&] { bench.ops.fill(memory[y], 0.0); });
  bench.row("copy", 2.0 * e * elements, [&] { bench.ops.copy(memory[x], memory[y]); });
  if (bench.sizes.dtype == DType::bf16) {
    bench.row("cast f32 to bf16", 6.0 * elements, [&] { bench.ops.cast(memory[wide], memory[y]); });
    bench.row("cast bf16 to f32", 6.0 * elements, [&] { bench.ops.cast(memory[x], memory[wide]); });
  }
  bench.row("scale", 2.0 * e * elements, [&] { bench.ops.scale(memory[x], 1.0); });
  bench.row("axpby", 3.0 * e * elements, [&] { bench.ops.axpby(0.5, memory[x], 0.5, memory[y]); });
  bench.row("sum_squares", e * elements, [&] { bench.ops.sum_squares(memory[x], memory[out], false); });
}

// The projections to the MLP, gate and up of twelve layers.
void polar_norms(const Bench& bench) {
  const Shape shape{24, bench.sizes.model.intermediate_size, bench.sizes.model.hidden_size};
  Buffers memory(bench.ops);
  const BufferId x = memory.add(bench.sizes.dtype, shape), out = memory.add(DType::f64, {shape[0]});
  memory.allocate();
  const double elements = bench.element() * static_cast<double>(shape.count());
  bench.row("polar_normalize", 3.0 * elements, [&] { bench.ops.polar_normalize(memory[x], 1.0, 1e-7); });
  bench.row("polar_inner", 2.0 * elements, [&] { bench.ops.polar_inner(memory[x], memory[x], memory[out]); });
}

}  // namespace

ExitCode bench_kernels(const Options& options) {
  const auto ops = open_device(options);
  const Sizes sizes = sizes_of(options, *ops);
  Report report(*ops, sizes, Report::Unit::bytes, copy_bandwidth(*ops, options), options);
  const Bench bench{*ops, sizes, report};
  for (const auto part : {norms, rope, swiglu, embedding, bias, updates, flat, polar_norms}) part(bench);
  return report.print();
}

}  // namespace polar::bench
