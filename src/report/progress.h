// The text of the progress line, and the estimate of the time left. Pure functions: no terminal, no clock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace polar {

struct Progress {
  int64_t step = 0;
  int64_t max_steps = 0;
  std::optional<double> loss;
  std::optional<double> val_loss;
  double lr = 0.0;
  std::optional<double> grad_norm;
  double tokens_per_s = 0.0;
  std::optional<double> mfu;
  std::optional<double> seconds_left;
  int64_t memory_bytes = 0;
};

// "step 120/300  40%  loss 3.214  val 3.300  lr 2.0e-04  norm 0.81  12.3k tok/s  ETA 1:32  mem 412 MiB".
// Never longer than `width` columns: the least important fields are left out first.
std::string progress_line(const Progress& progress, int width);
// The same for a pipe or a file: every field, no limit.
std::string plain_progress_line(const Progress& progress);

// "987", "12.3k", "4.56M", "1.20G": three significant digits. Not finite: "nan", "inf".
std::string human_count(double value);
// "412 MiB", "1.50 GiB".
std::string human_bytes(int64_t bytes);
// "0:07", "1:32", "2:03:04", "3d 04:05"; rounded to seconds (to minutes from a day on).
std::string human_duration(double seconds);

// Steps per second, smoothed over about the last `memory` seconds, from which follows the time left.
class StepRate {
 public:
  explicit StepRate(double memory = 30.0) : memory_(memory) {}
  // `steps` more steps took `seconds` (ignored unless both are positive).
  void add(int64_t steps, double seconds);
  std::optional<double> steps_per_s() const;
  // Seconds for `steps` more steps; nothing before the first add().
  std::optional<double> seconds_for(int64_t steps) const;

 private:
  double memory_;
  double steps_ = 0.0;
  double seconds_ = 0.0;
};

}  // namespace polar
