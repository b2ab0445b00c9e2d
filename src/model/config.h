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

// The largest sizes that are taken, from a configuration of ours and from a config.json alike.
namespace model_limits {
inline constexpr int64_t kVocabSize = int64_t{1} << 24;
inline constexpr int64_t kHiddenSize = int64_t{1} << 20;
inline constexpr int64_t kLayers = int64_t{1} << 16;
inline constexpr int64_t kHeads = int64_t{1} << 16;
inline constexpr int64_t kHeadDim = 256;
inline constexpr int64_t kIntermediateSize = int64_t{1} << 22;
inline constexpr int64_t kPositions = int64_t{1} << 30;
inline constexpr int64_t kParameters = int64_t{1} << 48;  // so that no count of bytes overflows 64 bits
}  // namespace model_limits

}  // namespace polar
