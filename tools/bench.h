// What the benchmarks of `polartrain bench` have in common: options, timing, memory, rates to compare with,
// and the table or JSON they print.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "config/experiment.h"
#include "model/config.h"
#include "ops/memory.h"
#include "ops/ops.h"

namespace polar::bench {

struct Options {
  std::string config, device = "auto", precision = "auto", gemm_cache, attention_engine = "native";
  std::vector<std::string> overrides;
  int64_t repeats = 15;
  int64_t peak_edge = 0, copy_mib = 0;  // 0: what suits the device
  int threads = 0;
  int world_size = 1;
  bool json = false;
};

std::unique_ptr<Ops> open_device(const Options& options);

struct Timing {
  double median = 0.0, least = 0.0, spread = 0.0;  // seconds; spread: (75 % - 25 % quantile) / median
};
// Seconds of `work`, which queues operations. On a device that works beside the host, short work is queued
// several times between two waits, so that the wait is not what is measured.
Timing measure(Ops& ops, int64_t repeats, const std::function<void()>& work);

// Device memory of one benchmark, random where it is a floating-point format (-0.5 .. 0.5), else zero.
class Buffers {
 public:
  explicit Buffers(Ops& ops) : ops_(ops) {}
  BufferId add(DType dtype, const Shape& shape);
  void allocate();
  Tensor operator[](BufferId id) const { return (*memory_)[id]; }

 private:
  Ops& ops_;
  MemoryPlan plan_;
  std::vector<BufferId> ids_;
  std::optional<PlannedMemory> memory_;
};
// f64 (kControlSize): an optimizer step that is applied as it is.
void upload_control(Ops& ops, const Tensor& control);

// The sizes that a benchmark takes: those of an experiment, or the device's own default, a layer of
// Qwen2.5-0.5B with 32 sequences of 1024 tokens on a GPU and a small model on the CPU.
struct Sizes {
  std::string name;
  ModelConfig model;  // head_dim is set
  OptimizerConfig optimizer;
  int64_t batch = 1, time = 1;
  DType dtype = DType::f32;  // of activations and weights

  int64_t rows() const { return batch * time; }
  int64_t query_width() const { return model.num_attention_heads * model.head_dim; }
  int64_t key_width() const { return model.num_key_value_heads * model.head_dim; }
};
Sizes sizes_of(const Options& options, const Ops& ops);

// The best measured rates, which shares are shares of: bytes read and written by a large copy, FLOPs of a
// large square product in this format.
double copy_bandwidth(Ops& ops, const Options& options);
double gemm_peak(Ops& ops, const Options& options, DType dtype);

// What a benchmark prints. `work` is in bytes or FLOPs, `best` in the same a second.
class Report {
 public:
  enum class Unit { bytes, flops };
  Report(const Ops& ops, const Sizes& sizes, Unit unit, double best, const Options& options);
  // Queues `run` repeatedly and keeps the result. `work`: of one run.
  Timing row(Ops& ops, const std::string& name, double work, const std::function<void()>& run);
  void row(const std::string& name, double work, const Timing& timing);
  // Something more of the last row, for JSON and at the end of its line.
  void note(const std::string& key, int64_t value);
  void note(const std::string& key, double value, const std::string& text);
  ExitCode print() const;

 private:
  void print_table() const;

  struct Row {
    std::string name;
    double work;
    Timing timing;
    std::vector<std::pair<std::string, nlohmann::ordered_json>> notes;
    std::string text;
  };
  std::string device_, sizes_, dtype_;
  Unit unit_;
  double best_;
  int64_t repeats_;
  bool json_;
  std::vector<Row> rows_;
};

// The benchmarks, a file each.
ExitCode bench_step(const Options& options);
ExitCode bench_kernels(const Options& options);
ExitCode bench_gemm(const Options& options);
ExitCode bench_attention(const Options& options);
ExitCode bench_polar(const Options& options);
ExitCode bench_comm(const Options& options);

}  // namespace polar::bench
