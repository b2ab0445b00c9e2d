#include "eval/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace polar {

double Evaluation::perplexity() const {
  return std::exp(loss);
}

Evaluation evaluate(Ops& ops, Model& model, const Loader& loader, int64_t sequences,
                    const EvaluationMemory& memory, const std::function<void(int64_t, int64_t)>& progress) {
  const auto available = static_cast<int64_t>(loader.samples_per_epoch());
  const int64_t wanted = sequences == 0 ? available : std::min(sequences, available);
  const int64_t time = loader.sequence_length();
  int64_t tokens = 0;
  double text_bytes = 0.0;
  ops.fill(memory.loss_sum, 0.0);
  for (int64_t done = 0; done < wanted;) {
    const int64_t count = std::min(memory.micro_sequences, wanted - done);
    const Batch host = host_batch(memory.host, count, time);
    const BatchCounts counts = loader.fill(static_cast<uint64_t>(done), host);
    tokens += counts.valid_tokens;
    text_bytes += counts.text_bytes;
    model.forward_loss(upload_batch(ops, host, 0, count, memory.device), memory.loss_sum);
    done += count;
    if (progress) progress(done, wanted);
  }
  double loss_sum = 0.0;
  ops.download(&loss_sum, memory.loss_sum);
  Evaluation result;
  result.tokens = tokens;
  result.loss = loss_sum / static_cast<double>(std::max<int64_t>(tokens, 1));
  if (loader.knows_text_bytes() && text_bytes > 0.0)
    result.bits_per_byte = loss_sum / std::numbers::ln2 / text_bytes;
  return result;
}

}  // namespace polar
