// The choice of the next token from logits: temperature, top-k, top-p, by a seed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace polar {

struct SamplingOptions {
  double temperature = 0.8;  // 0: the most likely token
  int64_t top_k = 0;         // only the k most likely tokens; 0: all
  double top_p = 1.0;        // only the smallest set of most likely tokens whose probability reaches p
  uint64_t seed = 0;
};

// Errors (exit code 2) name the option.
void check_sampling(const SamplingOptions& options);

// c * tanh(x / c) of every logit, in place; cap = 0: nothing.
void apply_softcap(std::span<float> logits, double cap);

// Draw number `index` of a text: a pure function of (logits, options, index). Ties go to the smaller id.
class Sampler {
 public:
  // Only ids below `candidates` are drawn: a model's vocabulary may be padded beyond its tokenizer's.
  Sampler(const SamplingOptions& options, int64_t candidates);
  // `logits`: at least `candidates` of them. Error if one of these is not finite.
  int32_t choose(std::span<const float> logits, uint64_t index);

 private:
  SamplingOptions options_;
  std::vector<int32_t> order_;
  std::vector<double> weights_;
};

}  // namespace polar
