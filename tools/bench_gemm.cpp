// polartrain bench gemm: the matrix products of a layer and of the head, forward and backward, and the loss
// that the head's are part of.
#include "bench.h"

namespace polar::bench {
namespace {

// A linear map y (rows, out) = x (rows, in) w^T, as the model computes it: activations and weights in one
// format, gradients of weights added to f32.
void linear(Ops& ops, Report& report, DType dtype, const std::string& name, int64_t rows, int64_t in,
            int64_t out) {
  Buffers memory(ops);
  const BufferId x = memory.add(dtype, {rows, in}), w = memory.add(dtype, {out, in}),
                 y = memory.add(dtype, {rows, out}), dw = memory.add(DType::f32, {out, in});
  memory.allocate();
  const double flops = 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
  const auto row = [&](const char* pass, const std::function<void()>& run) {
    report.row(ops, fmt::format("{} {} {}x{}x{}", name, pass, rows, out, in), flops, run);
  };
  row("forward", [&] { ops.gemm(Transpose::no, Transpose::yes, 1.0, memory[x], memory[w], 0.0, memory[y]); });
  row("input gradient",
      [&] { ops.gemm(Transpose::no, Transpose::no, 1.0, memory[y], memory[w], 0.0, memory[x]); });
  row("weight gradient",
      [&] { ops.gemm(Transpose::yes, Transpose::no, 1e-6, memory[y], memory[x], 1.0, memory[dw]); });
}

// The loss with its gradients: the head's three products in chunks of rows, and between them the softmax.
void loss(Ops& ops, Report& report, DType dtype, int64_t rows, int64_t width, int64_t vocabulary) {
  Buffers memory(ops);
  const auto bytes = static_cast<int64_t>(ops.cross_entropy_workspace(rows, width, vocabulary, dtype));
  const BufferId hidden = memory.add(dtype, {rows, width}), head = memory.add(dtype, {vocabulary, width}),
                 targets = memory.add(DType::i32, {rows}), losses = memory.add(DType::f32, {rows}),
                 dhidden = memory.add(dtype, {rows, width}),
                 dhead = memory.add(DType::f32, {vocabulary, width}),
                 workspace = memory.add(DType::f32, {bytes / 4 + 1});
  memory.allocate();
  CrossEntropy args;
  args.hidden = memory[hidden];
  args.head = memory[head];
  args.targets = memory[targets];
  args.gradient_scale = 1e-6;
  args.losses = memory[losses];
  args.dhidden = memory[dhidden];
  args.dhead = memory[dhead];
  args.workspace = memory[workspace];
  const double flops =
      6.0 * static_cast<double>(rows) * static_cast<double>(width) * static_cast<double>(vocabulary);
  report.row(ops, fmt::format("loss with gradients {}x{}x{}", rows, vocabulary, width), flops,
             [&] { ops.cross_entropy(args); });
}

}  // namespace

ExitCode bench_gemm(const Options& options) {
  const auto ops = open_device(options);
  const Sizes sizes = sizes_of(options, *ops);
  Report report(*ops, sizes, Report::Unit::flops, gemm_peak(*ops, options, sizes.dtype), options);
  const int64_t rows = sizes.rows(), width = sizes.model.hidden_size, q = sizes.query_width(),
                inner = sizes.model.intermediate_size;
  linear(*ops, report, sizes.dtype, "qkv", rows, width, q + 2 * sizes.key_width());
  linear(*ops, report, sizes.dtype, "o", rows, q, width);
  linear(*ops, report, sizes.dtype, "gate_up", rows, width, 2 * inner);
  linear(*ops, report, sizes.dtype, "down", rows, inner, width);
  // The head is done in chunks of rows (kernels/cross_entropy.cu): one of them.
  linear(*ops, report, sizes.dtype, "head", std::min<int64_t>(rows, 1024), width, sizes.model.vocab_size);
  loss(*ops, report, sizes.dtype, rows, width, sizes.model.vocab_size);
  return report.print();
}

}  // namespace polar::bench
