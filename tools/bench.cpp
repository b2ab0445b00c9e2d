// polartrain bench: how fast this machine is at the parts of a training step.
#include "bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "base/random.h"
#include "command.h"
#include "model/registry.h"

namespace polar {
namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kLeastSeconds = 2e-3;  // between two waits for a device: a wait is some 10 us
constexpr int64_t kRandomBlock = int64_t{1} << 20;

int64_t repeats_between_waits(Ops& ops, const std::function<void()>& work) {
  if (ops.host_memory()) return 1;
  ops.synchronize();
  const auto begin = Clock::now();
  work();
  ops.synchronize();
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return std::clamp<int64_t>(static_cast<int64_t>(std::ceil(kLeastSeconds / seconds)), 1, 1000);
}

// One block of random numbers, repeated on the device.
void fill_random(Ops& ops, const Tensor& to, const Tensor& block) {
  for (int64_t begin = 0; begin < to.count(); begin += block.count()) {
    const Shape part{std::min(block.count(), to.count() - begin)};
    if (to.dtype == block.dtype)
      ops.copy(block.slice(0, part), to.slice(begin, part));
    else
      ops.cast(block.slice(0, part), to.slice(begin, part));
  }
}

ModelConfig default_model(bool small) {
  ModelConfig model;
  model.architecture = small ? Architecture::qwen3 : Architecture::qwen2;
  model.vocab_size = small ? 4096 : 151936;
  model.hidden_size = small ? 384 : 896;
  model.num_hidden_layers = small ? 4 : 24;
  model.num_attention_heads = small ? 6 : 14;
  model.num_key_value_heads = 2;
  model.head_dim = 64;
  model.intermediate_size = small ? 1024 : 4864;
  model.tie_word_embeddings = true;
  return model;
}

// configs/parts/pretraining.yaml has the same.
OptimizerConfig default_optimizer() {
  GroupConfig muon;
  muon.name = "muon";
  muon.type = GroupType::matrix;
  muon.momentum.nesterov = true;
  muon.oracle.kind = OracleKind::newton_schulz;
  muon.scale.kind = ScaleKind::rms_match;
  return {.groups = {muon}};
}

DType dtype_of(const std::string& precision, const Ops& ops) {
  const bool has_bf16 = ops.supports(DType::bf16);
  if (precision == "bf16" && !has_bf16)
    fail_usage("--precision: found bf16, expected fp32: {} has no bf16", ops.device_name());
  return precision == "bf16" || (precision == "auto" && has_bf16) ? DType::bf16 : DType::f32;
}

}  // namespace

std::unique_ptr<Ops> open_device(const Options& options) {
  return make_ops({.device = options.device,
                   .threads = options.threads,
                   .gemm_cache = options.gemm_cache,
                   .attention_engine = options.attention_engine});
}

Timing measure(Ops& ops, int64_t repeats, const std::function<void()>& work) {
  work();
  const int64_t times = repeats_between_waits(ops, work);
  if (ops.host_memory()) work();
  std::vector<double> seconds;
  for (int64_t i = 0; i < repeats; ++i) {
    ops.synchronize();
    const auto begin = Clock::now();
    for (int64_t j = 0; j < times; ++j) work();
    ops.synchronize();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count() /
                      static_cast<double>(times));
  }
  std::sort(seconds.begin(), seconds.end());
  const auto quantile = [&](double q) {
    return seconds[static_cast<size_t>(q * static_cast<double>(seconds.size() - 1))];
  };
  return {quantile(0.5), seconds.front(), (quantile(0.75) - quantile(0.25)) / quantile(0.5)};
}

BufferId Buffers::add(DType dtype, const Shape& shape) {
  ids_.push_back(plan_.add("bench", fmt::format("buffer {}", ids_.size()), dtype, shape));
  return ids_.back();
}

void Buffers::allocate() {
  MemoryPlan block_plan;
  const BufferId block = block_plan.add("bench", "random numbers", DType::f32, {kRandomBlock});
  const PlannedMemory source(block_plan, ops_, MemoryKind::device);
  std::vector<float> values(kRandomBlock);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random_uniform(1, 2, i) - 0.5);
  ops_.upload(source[block], values.data());
  memory_.emplace(plan_, ops_, MemoryKind::device);
  for (const BufferId id : ids_) {
    const Tensor to = (*memory_)[id];
    if (to.dtype == DType::i32 || to.dtype == DType::f64)
      ops_.fill(to, 0.0);
    else
      fill_random(ops_, to, source[block]);
  }
  ops_.synchronize();
}

void upload_control(Ops& ops, const Tensor& control) {
  std::vector<double> values(kControlSize, 0.0);
  values[kControlApply] = values[kControlGradientScale] = values[kControlAppliedSteps] = 1.0;
  ops.upload(control, values.data());
}

Sizes sizes_of(const Options& options, const Ops& ops) {
  Sizes sizes;
  sizes.dtype = dtype_of(options.precision, ops);
  if (options.config.empty()) {
    const bool small = ops.host_memory();
    sizes.model = default_model(small);
    sizes.optimizer = default_optimizer();
    sizes.batch = small ? 4 : 32;
    sizes.time = small ? 256 : 1024;
    sizes.name = small ? "a small model" : "Qwen2.5-0.5B";
  } else {
    const Experiment e = load_experiment(options.config, options.overrides);
    sizes.model = e.model;
    check_sizes(e.model, "model.");
    sizes.model.head_dim = head_dim(e.model);
    sizes.optimizer = e.optimizer;
    sizes.time = e.data.sequence_length;
    const int64_t sequences = std::max<int64_t>(1, e.batch.global_tokens / sizes.time);
    sizes.batch = e.batch.micro_sequences > 0 ? e.batch.micro_sequences : sequences;
    sizes.name = e.run.name;
  }
  return sizes;
}

double copy_bandwidth(Ops& ops, const Options& options) {
  const int64_t mib = options.copy_mib > 0 ? options.copy_mib : ops.host_memory() ? 64 : 512;
  Buffers buffers(ops);
  const BufferId from = buffers.add(DType::f32, {mib << 18}), to = buffers.add(DType::f32, {mib << 18});
  buffers.allocate();
  const Timing t = measure(ops, 10, [&] { ops.copy(buffers[from], buffers[to]); });
  return 2.0 * static_cast<double>(buffers[from].bytes()) / t.least;
}

double gemm_peak(Ops& ops, const Options& options, DType dtype) {
  const int64_t edge = options.peak_edge > 0 ? options.peak_edge : ops.host_memory() ? 1024 : 8192;
  Buffers buffers(ops);
  const BufferId a = buffers.add(dtype, {edge, edge}), b = buffers.add(dtype, {edge, edge}),
                 c = buffers.add(dtype, {edge, edge});
  buffers.allocate();
  const Timing t = measure(ops, 10, [&] {
    ops.gemm(Transpose::no, Transpose::yes, 1.0, buffers[a], buffers[b], 0.0, buffers[c]);
  });
  return 2.0 * std::pow(static_cast<double>(edge), 3) / t.least;
}

Report::Report(const Ops& ops, const Sizes& sizes, Unit unit, double best, const Options& options)
    : device_(ops.device_name()),
      sizes_(fmt::format("{}: width {}, heads {}/{} x {}, intermediate {}, {} x {} tokens", sizes.name,
                         sizes.model.hidden_size, sizes.model.num_attention_heads,
                         sizes.model.num_key_value_heads, sizes.model.head_dim, sizes.model.intermediate_size,
                         sizes.batch, sizes.time)),
      dtype_(sizes.dtype == DType::bf16 ? "bf16" : "fp32"),
      unit_(unit),
      best_(best),
      repeats_(options.repeats),
      json_(options.json) {}

Timing Report::row(Ops& ops, const std::string& name, double work, const std::function<void()>& run) {
  const Timing timing = measure(ops, repeats_, run);
  row(name, work, timing);
  return timing;
}

void Report::row(const std::string& name, double work, const Timing& timing) {
  rows_.push_back({name, work, timing, {}, ""});
}

void Report::note(const std::string& key, int64_t value) {
  rows_.back().notes.emplace_back(key, value);
  rows_.back().text += fmt::format("  {} {}", value, key);
}

void Report::note(const std::string& key, double value, const std::string& text) {
  rows_.back().notes.emplace_back(key, value);
  rows_.back().text += "  " + text;
}

ExitCode Report::print() const {
  if (!json_) {
    print_table();
    return ExitCode::done;
  }
  const bool bytes = unit_ == Unit::bytes;
  const char* rate = bytes ? "bytes_per_s" : "flops_per_s";
  nlohmann::ordered_json json{{"device", device_},
                              {"sizes", sizes_},
                              {"precision", dtype_},
                              {bytes ? "copy_bytes_per_s" : "gemm_peak_flops_per_s", best_},
                              {"rows", nlohmann::ordered_json::array()}};
  for (const Row& row : rows_) {
    nlohmann::ordered_json entry{{"name", row.name},
                                 {"ms", 1e3 * row.timing.median},
                                 {"spread", row.timing.spread},
                                 {bytes ? "bytes" : "flops", row.work},
                                 {rate, row.work / row.timing.median},
                                 {"share", row.work / row.timing.median / best_}};
    for (const auto& [key, value] : row.notes) entry[key] = value;
    json["rows"].push_back(entry);
  }
  std::printf("%s\n", json.dump().c_str());
  return ExitCode::done;
}

void Report::print_table() const {
  const bool bytes = unit_ == Unit::bytes;
  std::printf("%s\n%s, %s\n", device_.c_str(), sizes_.c_str(), dtype_.c_str());
  std::printf("shares are of %s: %.1f %s\n\n", bytes ? "a large copy" : "a large square product",
              1e-9 * best_, bytes ? "GB/s" : "GFLOP/s");
  std::printf("%-44s %10s %7s %10s %12s %7s\n", "", "ms", "spread", bytes ? "MB" : "GFLOP",
              bytes ? "GB/s" : "GFLOP/s", "share");
  for (const Row& row : rows_)
    std::printf("%-44s %10.4f %6.1f%% %10.2f %12.1f %6.1f%%%s\n", row.name.c_str(), 1e3 * row.timing.median,
                100.0 * row.timing.spread, (bytes ? 1e-6 : 1e-9) * row.work,
                1e-9 * row.work / row.timing.median, 100.0 * row.work / row.timing.median / best_,
                row.text.c_str());
}

}  // namespace bench

namespace {

using Bench = ExitCode (*)(const bench::Options&);

void add_sizes(CLI::App& part, bench::Options& options) {
  part.add_option("config", options.config,
                  "The experiment whose model's sizes are taken (default: a layer of Qwen2.5-0.5B with 32 "
                  "sequences of 1024 tokens on a GPU, a small model on the CPU)");
  part.add_option("overrides", options.overrides, "Dotted keys, e.g. batch.micro_sequences=4");
  part.add_option("--device", options.device, "cpu, cuda or auto")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda", "auto"}));
  part.add_option("--precision", options.precision, "auto: bf16 where the device has it")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}));
  part.add_option("--gemm-cache", options.gemm_cache,
                  "CUDA: the file of measured GEMM algorithms (run.gemm_cache); without, none are measured");
  part.add_option("--peak-edge", options.peak_edge,
                  "Rows of the square product whose rate counts as peak (0: 8192 on a GPU, 1024 on the CPU)")
      ->check(CLI::Range(0, 65536));
  part.add_option("--copy-mib", options.copy_mib,
                  "Size of the copy whose rate counts as bandwidth (0: 512 MiB on a GPU, 64 on the CPU)")
      ->check(CLI::Range(0, 65536));
}

}  // namespace

void add_bench(CLI::App& app, Action& action) {
  auto options = std::make_shared<bench::Options>();
  CLI::App* command = app.add_subcommand(
      "bench",
      "Measure this machine: a training step, kernels, matrix products, attention, polar factors, links");
  command->require_subcommand(1);
  command->footer("Example: polartrain bench step configs/bench/3m.yaml --json");
  const auto add = [&](const char* name, const char* help, const char* example, Bench run) {
    CLI::App* part = command->add_subcommand(name, help);
    part->add_option("--threads", options->threads, "CPU threads (0: all)")
        ->capture_default_str()
        ->check(CLI::Range(0, 4096));
    part->add_option("--repeats", options->repeats, "Measurements; the median counts")
        ->capture_default_str()
        ->check(CLI::Range(1, 100000));
    part->add_flag("--json", options->json, "Print one JSON object");
    part->footer(fmt::format("Example: polartrain bench {} {}", name, example));
    part->callback([options, &action, run] { action = [options, run] { return run(*options); }; });
    return part;
  };
  CLI::App* step = add("step", "A whole training step of an experiment on random ids",
                       "configs/bench/3m.yaml", bench::bench_step);
  step->add_option("config", options->config, "The experiment")->required();
  step->add_option("overrides", options->overrides, "Dotted keys, e.g. batch.micro_sequences=4");
  add_sizes(*add("kernels", "What is bound by memory: bytes a second, against a copy", "--device cuda --json",
                 bench::bench_kernels),
            *options);
  add_sizes(*add("gemm", "The matrix products of a layer, against a large square one", "--device cuda",
                 bench::bench_gemm),
            *options);
  CLI::App* attention = add("attention", "Attention forward and backward", "configs/models/qwen3-0.6b.yaml",
                            bench::bench_attention);
  add_sizes(*attention, *options);
  attention
      ->add_option("--engine", options->attention_engine, "CUDA: native, cudnn or auto (attention.engine)")
      ->capture_default_str()
      ->check(CLI::IsMember({"native", "cudnn", "auto"}));
  CLI::App* polar = add("polar", "The matrix optimizer's step on a model's hidden matrices",
                        "configs/models/qwen2.5-0.5b.yaml --device cuda", bench::bench_polar);
  add_sizes(*polar, *options);
  polar
      ->add_option("--world-size", options->world_size,
                   "Also the step of each of so many ranks, one after the other")
      ->check(CLI::Range(1, 1024));
  CLI::App* comm =
      add("comm", "Reduce-scatter and all-gather between the ranks of a launch", "", bench::bench_comm);
  comm->add_option("--device", options->device, "cpu, cuda or auto")
      ->capture_default_str()
      ->check(CLI::IsMember({"cpu", "cuda", "auto"}));
  comm->footer("Example: polartrain launch --nproc-per-node 2 bench comm --json");
}

}  // namespace polar
