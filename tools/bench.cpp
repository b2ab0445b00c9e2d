// polartrain bench: how fast this machine is at the parts of a training step.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/random.h"
#include "command.h"
#include "config/experiment.h"
#include "ops/memory.h"
#include "plan/precision.h"
#include "plan/run_plan.h"

namespace polar {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchOptions {
  std::string config, device = "auto";
  std::vector<std::string> overrides;
  int64_t repeats = 15;
  int threads = 0;
  bool json = false;
};

struct Timing {
  double median = 0.0, least = 0.0, spread = 0.0;  // seconds; spread: (75 % - 25 % quantile) / median
};

Timing measure(Ops& ops, int64_t repeats, const std::function<void()>& work) {
  for (int warm_up = 0; warm_up < 2; ++warm_up) work();
  std::vector<double> seconds;
  for (int64_t i = 0; i < repeats; ++i) {
    ops.synchronize();
    const auto begin = Clock::now();
    work();
    ops.synchronize();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
  }
  std::sort(seconds.begin(), seconds.end());
  const auto quantile = [&](double q) {
    return seconds[static_cast<size_t>(q * static_cast<double>(seconds.size() - 1))];
  };
  return {quantile(0.5), seconds.front(), (quantile(0.75) - quantile(0.25)) / quantile(0.5)};
}

void fill_random(Ops& ops, const Tensor& to, uint64_t stream) {
  std::vector<float> values(static_cast<size_t>(to.count()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(random_uniform(1, stream, i) - 0.5);
  ops.upload(to, values.data());
}

// The best rate of a large square product: what the shares below are shares of.
double gemm_peak(Ops& ops) {
  constexpr int64_t kSize = 1024;
  MemoryPlan plan;
  const BufferId a = plan.add("gemm", "a", DType::f32, {kSize, kSize}),
                 b = plan.add("gemm", "b", DType::f32, {kSize, kSize}),
                 c = plan.add("gemm", "c", DType::f32, {kSize, kSize});
  const PlannedMemory memory(plan, ops, MemoryKind::device);
  fill_random(ops, memory[a], 1);
  fill_random(ops, memory[b], 2);
  const Timing t = measure(
      ops, 10, [&] { ops.gemm(Transpose::no, Transpose::yes, 1.0, memory[a], memory[b], 0.0, memory[c]); });
  return 2.0 * kSize * kSize * kSize / t.least;
}

// A training step on random ids: everything but the data loader.
class RandomStep {
 public:
  RandomStep(const Experiment& experiment, Ops& ops)
      : ops_(ops), plan_(experiment, ops), memory_(plan_.device, ops, MemoryKind::device) {
    plan_.model.bind(ops, memory_.arena());
    plan_.optimizer.bind(ops, memory_.arena());
    plan_.model.initialize(experiment.run.seed);
    fill_batch(experiment);
    set_control(experiment);
  }

  void run() {
    const auto begin = Clock::now();
    ops_.fill(plan_.model.gradients(), 0.0);
    ops_.fill(control_.loss_sum, 0.0);
    for (int64_t micro = 0; micro < plan_.micro_steps; ++micro)
      plan_.model.forward_backward(batch_, 1.0 / control_.gradient_tokens, control_.loss_sum);
    ops_.synchronize();
    model_seconds_ += std::chrono::duration<double>(Clock::now() - begin).count();
    ++runs_;
    ops_.sum_squares(plan_.model.gradients(), control_.gradient_squares, false);
    ops_.step_control(control_);
    plan_.optimizer.step({.parameters = plan_.model.parameters(),
                          .gradients = plan_.model.gradients(),
                          .weights = plan_.model.rounded_weights(),
                          .control = control_.control,
                          .learning_rates = rates_});
  }
  // Mean of forward and backward.
  double model_seconds() const { return model_seconds_ / static_cast<double>(runs_); }
  int64_t parameters() const { return plan_.model.registry().parameter_count(); }
  std::string optimizer() const { return plan_.optimizer.group_names().front(); }

 private:
  void fill_batch(const Experiment& experiment) {
    batch_.batch = plan_.micro_sequences;
    batch_.time = experiment.data.sequence_length;
    batch_.ids = memory_[plan_.input[0].ids];
    batch_.targets = memory_[plan_.input[0].targets];
    std::vector<int32_t> ids(static_cast<size_t>(batch_.ids.count()));
    for (size_t i = 0; i < ids.size(); ++i)
      ids[i] =
          static_cast<int32_t>(random_bits(1, 3, i) % static_cast<uint64_t>(experiment.model.vocab_size));
    ops_.upload(batch_.ids, ids.data());
    std::rotate(ids.begin(), ids.begin() + 1, ids.end());
    ops_.upload(batch_.targets, ids.data());
  }
  void set_control(const Experiment& experiment) {
    control_.loss_sum = memory_[plan_.loss_sum];
    control_.gradient_squares = memory_[plan_.gradient_squares];
    control_.gradient_tokens = static_cast<double>(experiment.batch.global_tokens);
    const Tensor inputs = memory_[plan_.step_inputs];
    control_.valid_tokens = inputs.slice(0, {1});
    rates_ = inputs.slice(1, {inputs.count() - 1});
    std::vector<double> values = plan_.optimizer.learning_rates(0);
    values.insert(values.begin(), control_.gradient_tokens);
    ops_.upload(inputs, values.data());
    control_.clip_norm = experiment.optimizer.clip_norm;
    control_.guard = false;
    control_.window = memory_[plan_.guard_window];
    control_.guard_window = experiment.guard.window;
    control_.control = memory_[plan_.control];
    ops_.fill(control_.control, 0.0);
    ops_.fill(control_.window, 0.0);
  }

  Ops& ops_;
  RunPlan plan_;
  PlannedMemory memory_;
  ModelBatch batch_;
  StepControl control_;
  Tensor rates_;
  double model_seconds_ = 0.0;
  int64_t runs_ = 0;
};

ExitCode bench_step(const BenchOptions& options) {
  const Experiment e = load_experiment(options.config, options.overrides);
  const auto ops =
      make_ops({.device = e.run.device,
                .threads = static_cast<int>(options.threads > 0 ? options.threads : e.run.threads),
                .attention_engine = e.attention.engine});
  check_precision(e.precision, *ops);
  const double peak = gemm_peak(*ops);
  RandomStep step(e, *ops);
  const Timing t = measure(*ops, options.repeats, [&] { step.run(); });
  const auto tokens = static_cast<double>(e.batch.global_tokens);
  const double flops = flops_per_token(e.model, e.data.sequence_length) * tokens;
  const double model_seconds = step.model_seconds();
  if (options.json) {
    const nlohmann::ordered_json json{{"device", ops->device_name()},
                                      {"parameters", step.parameters()},
                                      {"optimizer", step.optimizer()},
                                      {"tokens_per_s", tokens / t.median},
                                      {"spread", t.spread},
                                      {"step_ms", 1e3 * t.median},
                                      {"model_ms", 1e3 * model_seconds},
                                      {"gemm_peak_gflops", 1e-9 * peak},
                                      {"model_flops_per_step", flops},
                                      {"share_of_peak", flops / model_seconds / peak}};
    std::printf("%s\n", json.dump().c_str());
    return ExitCode::done;
  }
  std::printf(
      "%s\n%lld parameters, %lld tokens a step\nstep            %8.2f ms (spread %.1f %%)  %.0f tokens/s\n",
      ops->device_name().c_str(), static_cast<long long>(step.parameters()),
      static_cast<long long>(e.batch.global_tokens), 1e3 * t.median, 100.0 * t.spread, tokens / t.median);
  std::printf("  model         %8.2f ms, %.1f GFLOP/s = %.1f %% of the measured GEMM peak (%.0f GFLOP/s)\n",
              1e3 * model_seconds, 1e-9 * flops / model_seconds, 100.0 * flops / model_seconds / peak,
              1e-9 * peak);
  std::printf("  optimizer     %8.2f ms\n", 1e3 * (t.median - model_seconds));
  return ExitCode::done;
}

// Products with the shapes of a model of width 384 at 1024 tokens, and the symmetric product beside a full
// one.
ExitCode bench_gemm(const BenchOptions& options) {
  const auto ops = make_ops({options.device, options.threads});
  const double peak = gemm_peak(*ops);
  std::printf("%s\npeak (1024^3) %.1f GFLOP/s\n%-34s %10s %12s %8s\n", ops->device_name().c_str(),
              1e-9 * peak, "m x n x k", "ms", "GFLOP/s", "share");
  constexpr int64_t kShapes[][3] = {{1024, 192, 192}, {1024, 1024, 192}, {1024, 192, 512},  {192, 512, 1024},
                                    {1024, 384, 384}, {1024, 2048, 384}, {1024, 384, 1024}, {128, 8192, 384}};
  for (const auto& [m, n, k] : kShapes) {
    MemoryPlan plan;
    const BufferId a = plan.add("gemm", "a", DType::f32, {m, k}),
                   b = plan.add("gemm", "b", DType::f32, {n, k}),
                   c = plan.add("gemm", "c", DType::f32, {m, n});
    const PlannedMemory memory(plan, *ops, MemoryKind::device);
    fill_random(*ops, memory[a], 1);
    fill_random(*ops, memory[b], 2);
    const Timing t = measure(*ops, options.repeats, [&] {
      ops->gemm(Transpose::no, Transpose::yes, 1.0, memory[a], memory[b], 0.0, memory[c]);
    });
    const double rate = 2.0 * static_cast<double>(m * n * k) / t.median;
    std::printf("%-34s %10.3f %12.1f %7.1f%%\n", fmt::format("{} x {} x {}", m, n, k).c_str(), 1e3 * t.median,
                1e-9 * rate, 100.0 * rate / peak);
  }
  return ExitCode::done;
}

// The Gram matrix of a batch by the symmetric product (half the work) against a full GEMM of every matrix.
ExitCode bench_polar(const BenchOptions& options) {
  const auto ops = make_ops({options.device, options.threads});
  std::printf("%s\n%-24s %14s %14s %8s\n", ops->device_name().c_str(), "batch x m x n", "symmetric ms",
              "full GEMM ms", "ratio");
  constexpr int64_t kShapes[][3] = {{12, 192, 192}, {12, 512, 192},  {6, 192, 512},
                                    {16, 384, 384}, {16, 1024, 384}, {1, 1024, 1024}};
  for (const auto& [batch, m, n] : kShapes) {
    const int64_t s = std::min(m, n);
    MemoryPlan plan;
    const BufferId x = plan.add("polar", "x", DType::f32, {batch, m, n}),
                   a = plan.add("polar", "a", DType::f32, {batch, s, s});
    const PlannedMemory memory(plan, *ops, MemoryKind::device);
    fill_random(*ops, memory[x], 1);
    const Timing half = measure(*ops, options.repeats, [&] { ops->polar_gram(memory[x], memory[a]); });
    const Timing full = measure(*ops, options.repeats, [&, batch = batch, m = m, n = n] {
      for (int64_t i = 0; i < batch; ++i) {
        const Tensor xi = memory[x].slice(i * m * n, {m, n});
        const bool wide = m <= n;
        ops->gemm(wide ? Transpose::no : Transpose::yes, wide ? Transpose::yes : Transpose::no, 1.0, xi, xi,
                  0.0, memory[a].slice(i * s * s, {s, s}));
      }
    });
    std::printf("%-24s %14.3f %14.3f %8.2f\n", fmt::format("{} x {} x {}", batch, m, n).c_str(),
                1e3 * half.median, 1e3 * full.median, full.median / half.median);
  }
  return ExitCode::done;
}

// Attention forward and backward; the FLOPs are those of the causal half.
ExitCode bench_attention(const BenchOptions& options) {
  const auto ops = make_ops({options.device, options.threads});
  const double peak = gemm_peak(*ops);
  std::printf("%s\n%-36s %10s %10s %10s %8s\n", ops->device_name().c_str(), "B x T x Hq/Hkv x D", "fwd ms",
              "bwd ms", "GFLOP/s", "of peak");
  constexpr int64_t kShapes[][5] = {
      {4, 256, 6, 2, 32}, {4, 256, 6, 2, 64}, {1, 1024, 12, 4, 64}, {1, 1024, 8, 8, 128}};
  for (const auto& [batch, time, heads_q, heads_kv, width] : kShapes) {
    AttentionShape shape;
    shape.batch = batch;
    shape.query_time = shape.key_time = time;
    shape.heads_q = heads_q;
    shape.heads_kv = heads_kv;
    shape.head_dim = width;
    shape.scale = 1.0 / std::sqrt(static_cast<double>(width));
    MemoryPlan plan;
    const Shape wide{batch * time, heads_q * width}, narrow{batch * time, heads_kv * width};
    const auto add = [&](const char* name, Shape s) { return plan.add("attention", name, DType::f32, s); };
    const BufferId q = add("q", wide), k = add("k", narrow), v = add("v", narrow), out = add("out", wide),
                   dout = add("dout", wide), dq = add("dq", wide), dk = add("dk", narrow),
                   dv = add("dv", narrow), lse = add("lse", {batch, heads_q, time}),
                   scratch = add("workspace",
                                 {static_cast<int64_t>(ops->attention_workspace(shape, DType::f32) / 4 + 1)});
    const PlannedMemory memory(plan, *ops, MemoryKind::device);
    for (const BufferId id : {q, k, v, dout}) fill_random(*ops, memory[id], static_cast<uint64_t>(id.index));
    const Timing forward = measure(*ops, options.repeats, [&] {
      ops->attention_forward(
          {shape, memory[q], memory[k], memory[v], {}, memory[out], memory[lse], memory[scratch]});
    });
    const Timing backward = measure(*ops, options.repeats, [&] {
      ops->attention_backward({shape,
                               memory[q],
                               memory[k],
                               memory[v],
                               {},
                               memory[out],
                               memory[dout],
                               memory[lse],
                               memory[dq],
                               memory[dk],
                               memory[dv],
                               memory[scratch]});
    });
    const double flops =
        7.0 * static_cast<double>(batch * time * time * heads_q * width);  // 2 + 5 products, halved
    const double rate = flops / (forward.median + backward.median);
    std::printf("%-36s %10.3f %10.3f %10.1f %7.1f%%\n",
                fmt::format("{} x {} x {}/{} x {}", batch, time, heads_q, heads_kv, width).c_str(),
                1e3 * forward.median, 1e3 * backward.median, 1e-9 * rate, 100.0 * rate / peak);
  }
  return ExitCode::done;
}

using Bench = ExitCode (*)(const BenchOptions&);

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto options = std::make_shared<BenchOptions>();
  CLI::App* command =
      app.add_subcommand("bench", "Measure this machine: a training step, matrix products, attention");
  command->require_subcommand(1);
  command->footer("Example: polartrain bench step configs/bench/3m.yaml --json");
  const auto add = [&](const char* name, const char* help, Bench bench) {
    CLI::App* part = command->add_subcommand(name, help);
    part->add_option("--threads", options->threads, "CPU threads (0: all)")
        ->capture_default_str()
        ->check(CLI::Range(0, 4096));
    part->add_option("--repeats", options->repeats, "Measurements; the median counts")
        ->capture_default_str()
        ->check(CLI::Range(1, 100000));
    part->footer(fmt::format("Example: polartrain bench {}{}", name,
                             std::string_view(name) == "step" ? " configs/bench/3m.yaml" : ""));
    part->callback([options, &action, bench] { action = [options, bench] { return bench(*options); }; });
    return part;
  };
  CLI::App* step = add("step", "A whole training step of an experiment on random ids", bench_step);
  step->add_option("config", options->config, "The experiment")->required();
  step->add_option("overrides", options->overrides, "Dotted keys, e.g. batch.micro_sequences=4");
  step->add_flag("--json", options->json, "Print one JSON object");
  add("gemm", "Matrix products with the shapes of small models", bench_gemm);
  add("polar", "Symmetric products (half the work) against full ones", bench_polar);
  add("attention", "Attention forward and backward", bench_attention);
}

}  // namespace polar
