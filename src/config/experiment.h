// A whole experiment as its YAML file says it (configs/reference.yaml explains every key), checked and with
// every default filled in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/config.h"
#include "model/config.h"
#include "optim/config.h"

namespace polar {

struct RunConfig {
  std::string name = "run";
  std::string dir;  // default: runs/<name>
  uint64_t seed = 1337;
  std::string device = "auto";  // auto | cpu | cuda
  int64_t threads = 0;          // CPU threads; 0: OMP_NUM_THREADS, else all cores
  std::string gemm_cache;       // CUDA: file of measured GEMM algorithms; empty: none are measured

  bool operator==(const RunConfig&) const = default;
};

struct BatchConfig {
  int64_t global_tokens = 0;    // tokens of one optimizer step over all ranks
  int64_t micro_sequences = 0;  // sequences of one forward/backward on one rank; 0: the whole global batch

  bool operator==(const BatchConfig&) const = default;
};

struct TrainConfig {
  int64_t max_steps = 0;
  Recompute recompute = Recompute::none;
  // An HF directory or checkpoint whose weights start the run (not its optimizer state).
  std::string init_from;

  bool operator==(const TrainConfig&) const = default;
};

struct GuardConfig {
  bool enabled = true;
  double deviations = 6.0;
  int64_t window = 128;
  int64_t minimum = 32;
  int64_t max_consecutive_skips = 10;

  bool operator==(const GuardConfig&) const = default;
};

struct EvaluationConfig {
  int64_t every_steps = 0;  // 0: only at the end
  int64_t sequences = 0;    // 0: the whole split

  bool operator==(const EvaluationConfig&) const = default;
};

struct CheckpointConfig {
  int64_t every_steps = 0;  // 0: only at the end and on a signal
  int64_t keep_last = 3;    // 0: all
  int64_t keep_every = 0;   // additionally every step divisible by this; 0: none
  bool keep_best = false;   // additionally the one with the lowest validation loss
  bool background = true;

  bool operator==(const CheckpointConfig&) const = default;
};

struct LogConfig {
  int64_t every_steps = 10;
  bool tensorboard = true;
  int64_t diagnostics_every_steps = 0;  // 0: never
  std::vector<std::string> spectra{"model.embed_tokens.weight", "lm_head.weight"};

  bool operator==(const LogConfig&) const = default;
};

struct PrecisionConfig {
  std::string compute = "fp32";  // the CPU computes in fp32; bf16 needs CUDA
  std::string master = "fp32";
  std::string gradients = "fp32";

  bool operator==(const PrecisionConfig&) const = default;
};

struct AttentionConfig {
  std::string engine = "native";  // native | cudnn | auto

  bool operator==(const AttentionConfig&) const = default;
};

struct DistributedConfig {
  std::string backend = "auto";         // auto | gloo | nccl
  std::string sharding = "optimizer";   // optimizer | gradients
  std::string gradient_dtype = "fp32";  // fp32 | bf16
  std::string reduction = "fast";       // fast | invariant
  double slow_rank_share = 0.1;         // of a step's time, from which a slow rank is worth a line of the log
  double timeout_seconds =
      300.0;  // of a collective operation, of the ranks' meeting, half of it of a part of a checkpoint

  bool operator==(const DistributedConfig&) const = default;
};

struct Experiment {
  RunConfig run;
  ModelConfig model;
  DataConfig data;
  BatchConfig batch;
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  PrecisionConfig precision;
  AttentionConfig attention;
  TrainConfig train;
  GuardConfig guard;
  EvaluationConfig evaluation;
  CheckpointConfig checkpoint;
  DistributedConfig distributed;
  LogConfig log;

  bool operator==(const Experiment&) const = default;
};

// Reads `file`, its includes and the overrides ("train.max_steps=20", "optimizer.groups.0.lr=1e-3").
// Throws Error (exit code 2) that names file, line, what was found, what was expected and the nearest valid
// key.
Experiment load_experiment(const std::filesystem::path& file, const std::vector<std::string>& overrides);

// The resolved configuration: every key with its value; loading it gives the same experiment.
std::string to_yaml(const Experiment& experiment);

// XXH3-128 (32 hexadecimal digits) of the keys that determine the result: what must be equal for an exact
// resume. Left out: name, directory, device and threads of the run, prefetching, and the sections evaluation,
// checkpoint and log.
std::string config_hash(const Experiment& experiment);

enum class Compare { all_keys, result_keys };  // result_keys: those of config_hash

// "train.max_steps: 300 -> 400" for every dotted key whose value differs between `a` and `b`; "(not set)"
// where a key stands only in one of them.
std::vector<std::string> differences(const Experiment& a, const Experiment& b,
                                     Compare compare = Compare::all_keys);

// The text of configs/reference.yaml: a valid configuration in which every key of the table stands once with
// its meaning, type, unit and default.
std::string reference_yaml();

}  // namespace polar
