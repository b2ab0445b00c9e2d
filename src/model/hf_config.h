// Hugging Face's config.json from and to ModelConfig (Qwen2ForCausalLM, Qwen3ForCausalLM; transformers 4 and
// 5).
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace polar {

struct TokenIds {
  std::optional<int64_t> bos, pad;
  std::vector<int64_t> eos;  // any of them ends a text

  bool operator==(const TokenIds&) const = default;
};

// What a config.json says: the architecture, and what belongs to the tokenizer and to the stored weights.
struct HfConfig {
  ModelConfig model;
  TokenIds tokens;
  std::string dtype = "float32";  // of the stored weights, in PyTorch's spelling
};

// The content of config.json. `dtype`: "float32" or "bfloat16". A sliding window goes to every layer
// (layer_types), as here. What transformers has no key for (logit_softcap, z_loss, scale_residual_init) goes
// under "polartrain", which transformers carries along and ignores. max_position_embeddings must be set.
nlohmann::ordered_json to_hf_json(const ModelConfig& model, const TokenIds& tokens, std::string_view dtype);
// The content of generation_config.json: the token ids.
nlohmann::ordered_json to_hf_generation_json(const TokenIds& tokens);

// Reads config.json. Keys that are absent have transformers' defaults; sizes and rope_theta must be there.
// Errors (exit code 2) name `file`, the key, what was found and what is supported: other model types and
// activations, scaled or partial rotary embeddings, windows on some layers only, biases where the
// architecture has none.
HfConfig from_hf_json(const nlohmann::json& json, std::string_view file);
HfConfig read_hf_config(const std::filesystem::path& file);

}  // namespace polar
