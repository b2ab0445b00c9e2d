#include "report/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace polar {
namespace {

// A part of the progress line; parts with a smaller `importance` are left out first.
struct Field {
  std::string text;
  int importance;
};

// Numbers are padded to the width that they usually have, so that the line does not jitter.
std::vector<Field> fields_of(const Progress& p) {
  const std::string last = std::to_string(p.max_steps);
  std::vector<Field> fields;
  fields.push_back({fmt::format("step {:>{}}/{}", p.step, last.size(), last), 9});
  if (p.max_steps > 0) fields.push_back({fmt::format("{}%", 100 * p.step / p.max_steps), 4});
  if (p.loss) fields.push_back({fmt::format("loss {:.3f}", *p.loss), 8});
  if (p.val_loss) fields.push_back({fmt::format("val {:.3f}", *p.val_loss), 7});
  fields.push_back({fmt::format("lr {:.1e}", p.lr), 2});
  if (p.grad_norm) {
    const bool usual = *p.grad_norm >= 0.01 && *p.grad_norm < 1000.0;
    fields.push_back(
        {usual ? fmt::format("norm {:.2f}", *p.grad_norm) : fmt::format("norm {:.1e}", *p.grad_norm), 3});
  }
  fields.push_back({fmt::format("{:>5} tok/s", human_count(p.tokens_per_s)), 5});
  if (p.mfu) fields.push_back({fmt::format("mfu {:4.1f}%", 100.0 * *p.mfu), 3});
  if (p.seconds_left) fields.push_back({fmt::format("ETA {}", human_duration(*p.seconds_left)), 6});
  if (p.memory_bytes > 0) fields.push_back({fmt::format("mem {}", human_bytes(p.memory_bytes)), 1});
  return fields;
}

std::string join(const std::vector<Field>& fields) {
  std::string line;
  for (const Field& field : fields) line += (line.empty() ? "" : "  ") + field.text;
  return line;
}

// Three significant digits of a value in [0, 1000) or a little more.
std::string three_digits(double value) {
  if (value >= 99.95) return fmt::format("{:.0f}", value);
  return value >= 9.995 ? fmt::format("{:.1f}", value) : fmt::format("{:.2f}", value);
}

}  // namespace

std::string progress_line(const Progress& progress, int width) {
  std::vector<Field> fields = fields_of(progress);
  std::string line = join(fields);
  const size_t limit = static_cast<size_t>(std::max(width, 0));
  while (line.size() > limit && fields.size() > 1) {
    fields.erase(std::min_element(fields.begin(), fields.end(), [](const Field& a, const Field& b) {
      return a.importance < b.importance;
    }));
    line = join(fields);
  }
  return line.substr(0, limit);
}

std::string plain_progress_line(const Progress& progress) {
  return join(fields_of(progress));
}

std::string human_count(double value) {
  constexpr std::array<const char*, 5> kUnits{"", "k", "M", "G", "T"};
  if (!std::isfinite(value)) return fmt::format("{}", value);
  if (value < 0) return fmt::format("-{}", human_count(-value));
  if (value < 999.5) return value == std::floor(value) ? fmt::format("{:.0f}", value) : three_digits(value);
  size_t unit = 0;
  for (; value >= 999.5 && unit + 1 < kUnits.size(); ++unit) value /= 1000.0;
  return three_digits(value) + kUnits[unit];
}

std::string human_bytes(int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1023.5 && unit + 1 < kUnits.size(); ++unit) value /= 1024.0;
  const std::string digits = unit == 0 ? std::to_string(bytes) : three_digits(value);
  return fmt::format("{} {}", digits, kUnits[unit]);
}

std::string human_duration(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  const auto total = static_cast<int64_t>(std::llround(std::max(seconds, 0.0)));
  const int64_t minutes = total / 60, hours = total / 3600, days = total / 86400;
  if (days > 0) return fmt::format("{}d {:02}:{:02}", days, hours % 24, minutes % 60);
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes % 60, total % 60);
  return fmt::format("{}:{:02}", minutes, total % 60);
}

void StepRate::add(int64_t steps, double seconds) {
  if (steps <= 0 || !(seconds > 0.0)) return;
  // Both sums fade with the time that has passed, so their quotient is a weighted mean of the rate.
  const double keep = std::exp(-seconds / memory_);
  steps_ = keep * steps_ + static_cast<double>(steps);
  seconds_ = keep * seconds_ + seconds;
}

std::optional<double> StepRate::steps_per_s() const {
  if (seconds_ <= 0.0) return std::nullopt;
  return steps_ / seconds_;
}

std::optional<double> StepRate::seconds_for(int64_t steps) const {
  const std::optional<double> rate = steps_per_s();
  if (!rate) return std::nullopt;
  return static_cast<double>(steps) / *rate;
}

}  // namespace polar
