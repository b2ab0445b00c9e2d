// Text from a model: the prompt is fed in pieces, then one token at a time with a cache of keys and values.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "eval/sampler.h"
#include "model/model.h"
#include "ops/memory.h"

namespace polar {

// Decodes for one model; the cache holds `max_tokens` positions (prompt and continuation together).
class Generator {
 public:
  // Uses the parameters of `model`, which must outlive it. `tokenizer_vocab`: only ids below it are drawn, so
  // that the tokenizer knows each of them.
  Generator(Ops& ops, const Model& model, int64_t max_tokens, int64_t tokenizer_vocab);

  // Continues `prompt` (at least one id) by up to `count` ids; `on_token` gets each as it comes and returns
  // false to stop. Stops after `stop_id` too, which is not passed on. Errors (exit code 2): an empty prompt,
  // ids outside the vocabulary, more than max_tokens altogether. Returns the number of ids generated.
  int64_t generate(std::span<const int32_t> prompt, int64_t count, const SamplingOptions& sampling,
                   std::optional<int32_t> stop_id, const std::function<bool(int32_t)>& on_token);

  // Feeds ids behind the first `position` ones that are in the cache; logits (after soft-cap) of the last of
  // them.
  std::span<const float> feed(std::span<const int32_t> ids, int64_t position);
  const MemoryPlan& memory() const { return plan_; }

 private:
  Ops& ops_;
  Model decoder_;
  int64_t max_tokens_, candidates_;
  MemoryPlan plan_;
  BufferId ids_id_, logits_id_;
  std::optional<PlannedMemory> memory_;
  std::vector<float> logits_;
};

}  // namespace polar
