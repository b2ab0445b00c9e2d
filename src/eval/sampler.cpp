#include "eval/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/random.h"

namespace polar {

void check_sampling(const SamplingOptions& options) {
  if (!(options.temperature >= 0.0) || !std::isfinite(options.temperature))
    fail_usage("--temperature: found {}, expected a number >= 0", options.temperature);
  if (options.top_k < 0) fail_usage("--top-k: found {}, expected a number >= 0 (0: all)", options.top_k);
  if (!(options.top_p > 0.0 && options.top_p <= 1.0))
    fail_usage("--top-p: found {}, expected a number in (0, 1]", options.top_p);
}

void apply_softcap(std::span<float> logits, double cap) {
  const auto c = static_cast<float>(cap);
  if (c > 0.0f)
    for (float& x : logits) x = c * std::tanh(x / c);
}

Sampler::Sampler(const SamplingOptions& options, int64_t candidates)
    : options_(options), order_(static_cast<size_t>(candidates)), weights_(order_.size()) {
  check_sampling(options);
}

int32_t Sampler::choose(std::span<const float> all_logits, uint64_t index) {
  const std::span<const float> logits = all_logits.first(order_.size());
  if (!std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }))
    fail("the model's logits are not finite: the checkpoint is damaged or diverged");
  const auto best = std::max_element(logits.begin(), logits.end());
  if (options_.temperature == 0.0) return static_cast<int32_t>(best - logits.begin());

  std::iota(order_.begin(), order_.end(), 0);
  size_t kept = order_.size();
  if (options_.top_k > 0) kept = std::min(kept, static_cast<size_t>(options_.top_k));
  const auto more_likely = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  };
  if (kept < order_.size() || options_.top_p < 1.0)
    std::partial_sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(kept), order_.end(),
                      more_likely);

  double total = 0.0;
  for (size_t i = 0; i < kept; ++i) {
    const double distance =
        static_cast<double>(logits[static_cast<size_t>(order_[i])]) - static_cast<double>(*best);
    total += weights_[i] = std::exp(distance / options_.temperature);
  }
  if (options_.top_p < 1.0) {
    double reached = 0.0;
    for (size_t i = 0; i < kept; ++i) {
      reached += weights_[i];
      if (reached < options_.top_p * total) continue;
      kept = i + 1;
      total = reached;
    }
  }
  const double target = random_uniform(options_.seed, /*stream=*/0x73616D706C65, index) * total;
  double reached = 0.0;
  for (size_t i = 0; i < kept; ++i) {
    reached += weights_[i];
    if (target < reached) return order_[i];
  }
  return order_[kept - 1];
}

}  // namespace polar
