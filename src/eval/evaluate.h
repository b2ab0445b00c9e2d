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

// Evaluates the first `sequences` windows of a sequential loader (0: all), in their order. The micro-batch
// does not change the result beyond rounding. `progress` (optional) is called with (done, all) after each
// micro-batch.
Evaluation evaluate(Ops& ops, Model& model, const Loader& loader, int64_t sequences,
                    const EvaluationMemory& memory,
                    const std::function<void(int64_t, int64_t)>& progress = {});

}  // namespace polar
