// A run's metrics.jsonl: one JSON object a logged step, numbers with all their digits; writing and reading.
//
//   {"step":10,"tokens":10240,"loss":7.25,"lr":{"polargrad":0.0002,"adamw":0.003},"grad_norm":0.8,"skipped":0,
//    "val_loss":...,"val_perplexity":...,"val_bits_per_byte":...,"nuclear_share":{"mlp.up_proj":0.97,...},
//    ...,"memory_bytes":...,"tokens_per_s":...,
//    "mfu":...,"data_wait_share":...,"slowest_rank":...,"slowest_rank_share":...,"wait_share":...,
//    "time":...}
//
// Everything before "memory_bytes" is a function of the configuration alone, so two runs of it agree bit for
// bit; the rest depends on the machine and the clock. JSON has no number for a value that is not finite: such
// a value is one of the strings "nan", "inf", "-inf" (null would hide which).
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace polar {

// One line. Losses are means over tokens in nats. A value without content is left out of the line.
struct StepMetrics {
  int64_t step = 0;                                // optimizer updates done
  int64_t tokens = 0;                              // trained on so far, over all ranks
  std::optional<double> loss;                      // of this step; none on a line that only evaluates
  std::vector<std::pair<std::string, double>> lr;  // (optimizer group, learning rate); names are unique
  std::optional<double> grad_norm;                 // global 2-norm before clipping
  int64_t skipped = 0;                             // steps the loss guard has skipped so far
  std::optional<double> val_loss;
  std::optional<double> val_perplexity;
  std::optional<double> val_bits_per_byte;
  // (quantity, (family or parameter, value)), as train/diagnostics.h says; most lines have none.
  std::vector<std::pair<std::string, std::vector<std::pair<std::string, double>>>> diagnostics;
  // From here on: the machine and the clock.
  int64_t memory_bytes = 0;
  double tokens_per_s = 0.0;
  std::optional<double> mfu;            // model FLOPs a second, a share of what the device can do; 0 to 1
  double data_wait_share = 0.0;         // of the time since the last line, 0 to 1
  std::optional<int64_t> slowest_rank;  // of several: the one that the others wait for
  std::optional<double> slowest_rank_share;  // of a step's time, that they do so; 0 to 1
  std::optional<double> wait_share;          // of a step's time, that rank 0 waits for what travels; 0 to 1
  double time = 0.0;                         // seconds since the Unix epoch
};

// The line of `metrics`, without the line break.
std::string metrics_line(const StepMetrics& metrics);

// Names for the groups of an optimizer, of which several may be called the same: "adamw", "adamw.2", ...
std::vector<std::string> unique_names(std::vector<std::string> names);

// `line` without the keys that depend on the machine and the clock: equal for two equal runs.
std::string deterministic_part(std::string_view line);

// Appends lines to a metrics.jsonl; every line is handed to the system before write() returns.
// Errors: Error naming the file (cannot be opened, disk full, a broken line in the file to be resumed).
class MetricsWriter {
 public:
  // A new run: an existing file is replaced.
  explicit MetricsWriter(const std::filesystem::path& path);
  // A run resumed after `resume_step`: later lines, and a torn last line, are first removed (atomically), so
  // that no step is logged twice. Whoever saves a checkpoint of a step writes that step's line before it.
  MetricsWriter(const std::filesystem::path& path, int64_t resume_step);
  void write(const StepMetrics& metrics);

 private:
  void open();
  std::filesystem::path path_;
  std::ofstream file_;
};

// A whole metrics.jsonl by columns; every column is as long as `step`. NaN stands where a line has no value.
struct MetricsTable {
  std::vector<int64_t> step;
  std::vector<int64_t> tokens;
  // "loss", "grad_norm", "val_loss", ... and "lr/<group>"; only columns that have a value somewhere.
  std::map<std::string, std::vector<double>> columns;

  size_t size() const { return step.size(); }
  // The column, or one of NaN only.
  std::vector<double> column(const std::string& name) const;
};

// Reads what MetricsWriter writes; other keys become columns too if they hold numbers. A torn last line (the
// run was killed while writing it) is left out. Errors: Error "file:line: ..." for any other line that is not
// a JSON object of numbers with integers "step" and "tokens", and for a file that cannot be read.
MetricsTable read_metrics(const std::filesystem::path& path);

}  // namespace polar
