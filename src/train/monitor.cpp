#include "train/monitor.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"

namespace polar {
namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double unix_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col - 1 : 100;
}

}  // namespace

Monitor::Monitor(const Experiment& experiment, const std::filesystem::path& run, int64_t first_step,
                 std::vector<std::string> group_names, int64_t memory_bytes)
    : experiment_(experiment),
      groups_(unique_names(std::move(group_names))),
      memory_bytes_(memory_bytes),
      metrics_(first_step == 0 ? MetricsWriter(run / "metrics.jsonl")
                               : MetricsWriter(run / "metrics.jsonl", first_step)),
      last_step_(Clock::now()),
      last_log_(last_step_),
      last_line_(last_step_ - std::chrono::seconds(1)),
      last_log_tokens_(first_step * experiment.batch.global_tokens) {
  if (experiment.log.tensorboard)
    events_ = std::make_unique<EventWriter>(run / "tensorboard", unix_time(), first_step + 1);
}

void Monitor::step(const StepReport& report, bool log) {
  rate_.add(1, seconds_since(last_step_) - (excluded_ - excluded_step_));
  last_step_ = Clock::now();
  excluded_step_ = excluded_;
  if (report.evaluation) last_validation_ = report.evaluation->loss;
  const double tokens_per_s =
      rate_.steps_per_s().value_or(0.0) * static_cast<double>(experiment_.batch.global_tokens);
  if (log) log_metrics(report, tokens_per_s);
  if (!log && (!log::is_terminal() || seconds_since(last_line_) < 0.1)) return;
  last_line_ = Clock::now();
  Progress line;
  line.step = report.step;
  line.max_steps = experiment_.train.max_steps;
  line.loss = report.loss;
  line.val_loss = last_validation_;
  line.lr = report.learning_rates.empty() ? 0.0 : report.learning_rates.front();
  line.grad_norm = report.gradient_norm;
  line.tokens_per_s = tokens_per_s;
  line.mfu = mfu(tokens_per_s);
  line.seconds_left = rate_.seconds_for(experiment_.train.max_steps - report.step);
  line.memory_bytes = memory_bytes_;
  log::progress(log::is_terminal() ? progress_line(line, terminal_width()) : plain_progress_line(line));
}

void Monitor::log_metrics(const StepReport& report, double tokens_per_s) {
  const double elapsed = seconds_since(last_log_) - excluded_;
  StepMetrics line;
  line.step = report.step;
  line.tokens = report.tokens;
  line.loss = report.loss;
  line.grad_norm = report.gradient_norm;
  for (size_t i = 0; i < groups_.size(); ++i) line.lr.emplace_back(groups_[i], report.learning_rates.at(i));
  line.skipped = report.skipped;
  if (report.evaluation) {
    line.val_loss = report.evaluation->loss;
    line.val_perplexity = report.evaluation->perplexity();
    line.val_bits_per_byte = report.evaluation->bits_per_byte;
  }
  line.diagnostics = report.diagnostics;
  line.memory_bytes = memory_bytes_;
  line.tokens_per_s =
      elapsed > 0.0 ? static_cast<double>(report.tokens - last_log_tokens_) / elapsed : tokens_per_s;
  line.mfu = mfu(line.tokens_per_s);
  line.data_wait_share = elapsed > 0.0 ? (report.data_wait_seconds - last_wait_) / elapsed : 0.0;
  if (report.slowest_rank) {
    line.slowest_rank = report.slowest_rank->rank;
    line.slowest_rank_share = report.slowest_rank->share;
    line.wait_share = report.slowest_rank->wait_share;
  }
  line.time = unix_time();
  try {
    metrics_.write(line);
    if (events_) events_->write(report.step, line.time, tensorboard_scalars(line));
  } catch (const Error& e) {  // a full disk must not end the run: it may be free again before the next save
    log::warning("{}; the run goes on", e.what());
  }
  rates_.push_back(line.tokens_per_s);
  last_log_ = Clock::now();
  last_log_tokens_ = report.tokens;
  last_wait_ = report.data_wait_seconds;
  excluded_ = excluded_step_ = 0.0;
}

std::optional<double> Monitor::mfu(double tokens_per_s) const {
  if (!mfu_per_rate_) return std::nullopt;
  return *mfu_per_rate_ * tokens_per_s;
}

double Monitor::median_tokens_per_s() const {
  if (rates_.empty()) return 0.0;
  std::vector<double> sorted = rates_;
  std::sort(sorted.begin(), sorted.end());
  return sorted[sorted.size() / 2];
}

}  // namespace polar
