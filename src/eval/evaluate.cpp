#include "eval/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace polar {

double Evaluation::perplexity() const {
  return std::exp(loss);
}

int64_t evaluated_windows(const Loader& loader, int64_t sequences) {
  const auto available = static_cast<int64_t>(loader.samples_per_epoch());
  return sequences == 0 ? available : std::min(sequences, available);
}

EvaluationSums sum_losses(Ops& ops, Model& model, const Loader& loader, int64_t begin, int64_t end,
                          const EvaluationMemory& memory,
                          const std::function<void(int64_t, int64_t)>& progress) {
  EvaluationSums sums;
  ops.fill(memory.loss_sum, 0.0);
  for (int64_t done = begin; done < end;) {
    const int64_t count = std::min(memory.micro_sequences, end - done);
    const Batch host = host_batch(memory.host, count, loader.sequence_length());
    const BatchCounts counts = loader.fill(static_cast<uint64_t>(done), host);
    sums.tokens += static_cast<double>(counts.valid_tokens);
    sums.text_bytes += counts.text_bytes;
    model.forward_loss(upload_batch(ops, host, 0, count, memory.device), memory.loss_sum);
    done += count;
    if (progress) progress(done - begin, end - begin);
  }
  ops.download(&sums.loss, memory.loss_sum);
  return sums;
}

Evaluation evaluation_of(const EvaluationSums& sums, bool knows_text_bytes) {
  Evaluation result;
  result.tokens = static_cast<int64_t>(sums.tokens);
  result.loss = sums.loss / std::max(sums.tokens, 1.0);
  if (knows_text_bytes && sums.text_bytes > 0.0)
    result.bits_per_byte = sums.loss / std::numbers::ln2 / sums.text_bytes;
  return result;
}

}  // namespace polar
