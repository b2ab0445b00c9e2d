#include "train/stragglers.h"

#include <unistd.h>

#include <algorithm>
#include <span>

#include "base/log.h"

namespace polar {
namespace {

constexpr double kLeastSeconds = 1.0;               // that are compared
constexpr auto kRepeat = std::chrono::seconds(60);  // until the same rank is worth a line again

std::string host_name() {
  char name[256] = "?";
  gethostname(name, sizeof name - 1);
  return name;
}

}  // namespace

SlowestRank slowest_of(const std::vector<double>& seconds, double step_seconds) {
  std::vector<double> sorted = seconds;
  std::sort(sorted.begin(), sorted.end());
  SlowestRank slowest;
  slowest.rank = static_cast<int>(std::max_element(seconds.begin(), seconds.end()) - seconds.begin());
  slowest.seconds = sorted.back();
  slowest.median_seconds = sorted[(sorted.size() - 1) / 2];
  if (step_seconds > 0.0)
    slowest.share = std::clamp((slowest.seconds - slowest.median_seconds) / step_seconds, 0.0, 1.0);
  return slowest;
}

Stragglers::Stragglers(Communicator& comm, int64_t step, double share)
    : comm_(comm), share_(share), hosts_(comm.all_gather_text(host_name())), step_(step) {
  resume();
}

void Stragglers::resume() {
  resumed_ = Clock::now();
  resumed_waits_ = comm_.wait_seconds();
}

void Stragglers::pause() {
  seconds_ += std::chrono::duration<double>(Clock::now() - resumed_).count();
  waits_ += comm_.wait_seconds() - resumed_waits_;
}

std::optional<SlowestRank> Stragglers::look(int64_t step) {
  if (step <= step_) return std::nullopt;
  const auto steps = static_cast<double>(step - step_);
  const auto ranks = static_cast<size_t>(comm_.world_size());
  // A place for each rank's own time, and the mean over the ranks of all the time.
  std::vector<double> values(ranks + 1);
  values[static_cast<size_t>(comm_.rank())] = std::max(seconds_ - waits_, 0.0) / steps;
  values[ranks] = seconds_ / static_cast<double>(ranks);
  comm_.all_reduce_sum(std::span<double>(values));
  const double all = values[ranks];
  if (all < kLeastSeconds) return std::nullopt;  // the same on all ranks
  values.pop_back();
  SlowestRank slowest = slowest_of(values, all / steps);
  slowest.wait_share = std::clamp(waits_ / seconds_, 0.0, 1.0);
  seconds_ = waits_ = 0.0;
  step_ = step;
  if (comm_.rank() == 0 && slowest.share > share_) log(slowest);
  return slowest;
}

void Stragglers::log(const SlowestRank& slowest) {
  if (slowest.rank == logged_rank_ && Clock::now() - logged_ < kRepeat) return;
  logged_rank_ = slowest.rank;
  logged_ = Clock::now();
  log::warning(
      "rank {} ({}) is slow: its step takes {:.4g} ms where the median is {:.4g} ms; the group waits {:.0f} "
      "% of "
      "the step for it",
      slowest.rank, hosts_[static_cast<size_t>(slowest.rank)], 1e3 * slowest.seconds,
      1e3 * slowest.median_seconds, 100.0 * slowest.share);
}

}  // namespace polar
