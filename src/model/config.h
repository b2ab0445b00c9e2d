// The architecture of a model: Hugging Face's config.json keys, Qwen2/2.5 and Qwen3.
#pragma once

#include <cstdint>
#include <string>

namespace polar {

enum class Architecture { qwen2, qwen3 };  // qwen2: bias on q, k, v; qwen3: RMSNorm on the heads of q and k
enum class Recompute { none, mlp, layer };

struct ModelConfig {
  Architecture architecture = Architecture::qwen3;
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;  // 0: hidden_size / num_attention_heads
  int64_t intermediate_size = 0;
  int64_t max_position_embeddings = 0;  // 0: the sequence length
  double rope_theta = 1.0e6;
  double rms_norm_eps = 1.0e-6;
  bool tie_word_embeddings = false;
  int64_t sliding_window = 0;        // tokens a query sees; 0: all before it
  double initializer_range = 0.02;   // standard deviation of normal initial weights
  bool scale_residual_init = false;  // o_proj and down_proj divided by sqrt(2 L)
  double z_loss = 0.0;               // coefficient of logsumexp^2, in the gradient only
  double logit_softcap = 0.0;        // c * tanh(x / c); 0: none

  bool operator==(const ModelConfig&) const = default;
};

}  // namespace polar
