// The loss of a model on a held-out split.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "data/loader.h"
#include "eval/batch.h"
#include "model/model.h"
#include "ops/ops.h"

namespace polar {

struct Evaluation {
  int64_t tokens = 0;                   // that were predicted
  double loss = 0.0;                    // mean cross-entropy, nats a token
  double perplexity() const;            // exp(loss)
  std::optional<double> bits_per_byte;  // loss / ln 2 * tokens / bytes of text; none: the shards do not say
};

// Memory for an evaluation: host and device arrays of one micro-batch and a f64 scalar on the device.
struct EvaluationMemory {
  int64_t micro_sequences = 1;
  BatchTensors host, device;
  Tensor loss_sum;
};

// How many windows of a sequential loader an evaluation takes: the first `sequences` of them, 0: all.
int64_t evaluated_windows(const Loader& loader, int64_t sequences);

// Sums over windows, in f64 (counts are exact): those of several parts can be added.
struct EvaluationSums {
  double loss = 0.0, tokens = 0.0, text_bytes = 0.0;
};
// Windows [begin, end) of the loader, in their order. The micro-batch does not change the result beyond
// rounding. `progress` (optional) is called with (done, all) after each micro-batch.
EvaluationSums sum_losses(Ops& ops, Model& model, const Loader& loader, int64_t begin, int64_t end,
                          const EvaluationMemory& memory,
                          const std::function<void(int64_t, int64_t)>& progress = {});
Evaluation evaluation_of(const EvaluationSums& sums, bool knows_text_bytes);

}  // namespace polar
