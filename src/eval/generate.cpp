#include "eval/generate.h"

#include <algorithm>

#include "base/error.h"

namespace polar {
namespace {

constexpr int64_t kPiece = 64;  // ids of the prompt that are fed at once

// In the format of the weights that it shares.
ModelUse decoding_use(const Model& model, int64_t max_tokens) {
  ModelUse use;
  use.dtype = model.weights().dtype;
  use.time = std::min(kPiece, max_tokens);
  use.training = false;
  use.cache_time = max_tokens;
  use.own_parameters = false;
  return use;
}

}  // namespace

Generator::Generator(Ops& ops, const Model& model, int64_t max_tokens, int64_t tokenizer_vocab)
    : ops_(ops),
      decoder_(model.config(), decoding_use(model, max_tokens)),
      max_tokens_(max_tokens),
      candidates_(std::min(model.config().vocab_size, tokenizer_vocab)),
      logits_(static_cast<size_t>(model.config().vocab_size)) {
  decoder_.plan(plan_, ops);
  ids_id_ = plan_.add("input", "ids", DType::i32, {std::min(kPiece, max_tokens)});
  logits_id_ = plan_.add("activations", "logits", DType::f32, {1, model.config().vocab_size});
  memory_.emplace(plan_, ops, MemoryKind::device);
  decoder_.bind(ops, memory_->arena());
  decoder_.share_parameters(model);
}

std::span<const float> Generator::feed(std::span<const int32_t> ids, int64_t position) {
  const int64_t vocabulary = decoder_.config().vocab_size;
  for (const int32_t id : ids)
    if (id < 0 || id >= vocabulary)
      fail_usage("the prompt holds the token id {}, expected ids in [0, {})", id, vocabulary);
  if (position + static_cast<int64_t>(ids.size()) > max_tokens_)
    fail_usage("prompt and continuation together are {} tokens, expected at most {}",
               position + static_cast<int64_t>(ids.size()), max_tokens_);
  MatrixView hidden;
  for (size_t done = 0; done < ids.size();) {
    const size_t count = std::min(ids.size() - done, static_cast<size_t>(kPiece));
    ModelBatch batch;
    batch.batch = 1;
    batch.time = static_cast<int64_t>(count);
    batch.first_position = position + static_cast<int64_t>(done);
    batch.ids = (*memory_)[ids_id_].slice(0, {batch.time});
    ops_.upload(batch.ids, ids.data() + done);
    hidden = decoder_.forward_hidden(batch).rows_from(batch.time - 1, 1);
    ops_.synchronize();
    done += count;
  }
  const Tensor logits = (*memory_)[logits_id_];
  ops_.gemm(Transpose::no, Transpose::yes, 1.0, hidden, decoder_.head(), 0.0, logits);
  ops_.download(logits_.data(), logits);
  apply_softcap(logits_, decoder_.config().logit_softcap);
  return logits_;
}

int64_t Generator::generate(std::span<const int32_t> prompt, int64_t count, const SamplingOptions& sampling,
                            std::optional<int32_t> stop_id, const std::function<bool(int32_t)>& on_token) {
  if (prompt.empty()) fail_usage("the prompt is empty: expected at least one token");
  Sampler sampler(sampling, candidates_);
  std::span<const float> logits = feed(prompt, 0);
  auto position = static_cast<int64_t>(prompt.size());
  for (int64_t made = 0; made < count; ++made) {
    const int32_t id = sampler.choose(logits, static_cast<uint64_t>(made));
    if (stop_id && id == *stop_id) return made;
    if (!on_token(id)) return made + 1;
    if (made + 1 < count) logits = feed({&id, 1}, position++);
  }
  return count;
}

}  // namespace polar
