#include "train/sample.h"

#include <algorithm>
#include <memory>

#include "data/tokenizer.h"
#include "eval/generate.h"

namespace polar {

std::string sample_text(Ops& ops, const Model& model, const Experiment& experiment) {
  if (experiment.data.tokenizer.empty()) return {};
  const std::shared_ptr<const Tokenizer> tokenizer = load_tokenizer(experiment.data.tokenizer);
  const int64_t length = std::min<int64_t>(120, experiment.data.sequence_length);
  Generator generator(ops, model, length, tokenizer->vocab_size());
  const int32_t start = std::max(tokenizer->eos_id(), int32_t{0});
  SamplingOptions sampling;
  sampling.seed = experiment.run.seed;
  StreamDecoder decoder(*tokenizer);
  std::string text;
  generator.generate({&start, 1}, length - 1, sampling, tokenizer->eos_id(), [&](int32_t id) {
    text += decoder.push(id);
    return true;
  });
  return text + decoder.finish();
}

}  // namespace polar
