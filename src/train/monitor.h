// What a run tells of itself while it trains: metrics.jsonl, TensorBoard events, the progress line.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/experiment.h"
#include "eval/evaluate.h"
#include "report/metrics.h"
#include "report/progress.h"
#include "report/tensorboard.h"
#include "train/diagnostics.h"
#include "train/stragglers.h"

namespace polar {

// One optimizer step as the monitor sees it. `step` counts the steps done.
struct StepReport {
  int64_t step = 0, tokens = 0;
  double loss = 0.0, gradient_norm = 0.0;
  int64_t skipped = 0;  // so far
  std::vector<double> learning_rates;
  double data_wait_seconds = 0.0;  // since the run started
  std::optional<Evaluation> evaluation;
  DiagnosticValues diagnostics;             // if they were due
  std::optional<SlowestRank> slowest_rank;  // of several, if it was looked for
};

class Monitor {
 public:
  // Continues the files of a run that is resumed after `first_step` steps.
  Monitor(const Experiment& experiment, const std::filesystem::path& run, int64_t first_step,
          std::vector<std::string> group_names, int64_t memory_bytes);
  // From now on MFU is told: the model's FLOPs a token, and the FLOPs a second that the device can do.
  void set_peak(double flops_per_token, double peak_flops) { mfu_per_rate_ = flops_per_token / peak_flops; }

  // After each step: the progress line (on a terminal), and with `log` a line in metrics.jsonl, TensorBoard
  // and, elsewhere than on a terminal, on the console.
  void step(const StepReport& report, bool log);
  // Time that is not training (evaluation, saving): left out of tokens/s.
  void exclude(double seconds) { excluded_ += seconds; }
  double median_tokens_per_s() const;

 private:
  using Clock = std::chrono::steady_clock;
  std::optional<double> mfu(double tokens_per_s) const;
  void log_metrics(const StepReport& report, double tokens_per_s);

  const Experiment& experiment_;
  std::vector<std::string> groups_;
  int64_t memory_bytes_;
  MetricsWriter metrics_;
  std::unique_ptr<EventWriter> events_;
  StepRate rate_;
  std::optional<double> last_validation_;
  std::vector<double> rates_;  // tokens/s of each logged stretch
  Clock::time_point last_step_, last_log_, last_line_;
  int64_t last_log_tokens_;
  std::optional<double> mfu_per_rate_;  // MFU at one token a second
  double excluded_ = 0.0, excluded_step_ = 0.0, last_wait_ = 0.0;
};

}  // namespace polar
