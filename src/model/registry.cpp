#include "model/registry.h"

#include <string>

#include "base/error.h"

namespace polar {
namespace {

// In double: this is what finds the sizes whose products int64_t does not hold.
double approximate_parameters(const ModelConfig& c) {
  const auto width = static_cast<double>(c.hidden_size), d = static_cast<double>(head_dim(c));
  const double attention =
      2.0 * width * d * static_cast<double>(c.num_attention_heads + c.num_key_value_heads);
  const double mlp = 3.0 * width * static_cast<double>(c.intermediate_size);
  return 2.0 * width * static_cast<double>(c.vocab_size) +
         static_cast<double>(c.num_hidden_layers) * (attention + mlp);
}

LayerParameters add_layer(ParameterRegistry& r, const ModelConfig& c, int64_t index) {
  const int64_t width = c.hidden_size, d = head_dim(c);
  const int64_t q = c.num_attention_heads * d, kv = c.num_key_value_heads * d, mlp = c.intermediate_size;
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const std::string attention = prefix + "self_attn.";
  LayerParameters p{};
  p.input_norm = r.add(prefix + "input_layernorm.weight", Role::norm, {width});
  p.q = r.add(attention + "q_proj.weight", Role::matrix, {q, width}, false, c.num_attention_heads);
  p.k = r.add(attention + "k_proj.weight", Role::matrix, {kv, width}, true, c.num_key_value_heads);
  p.v = r.add(attention + "v_proj.weight", Role::matrix, {kv, width}, true);
  p.q_bias = p.k_bias = p.v_bias = p.q_norm = p.k_norm = -1;
  if (c.architecture == Architecture::qwen2) {
    p.q_bias = r.add(attention + "q_proj.bias", Role::bias, {q});
    p.k_bias = r.add(attention + "k_proj.bias", Role::bias, {kv}, true);
    p.v_bias = r.add(attention + "v_proj.bias", Role::bias, {kv}, true);
  } else {
    p.q_norm = r.add(attention + "q_norm.weight", Role::norm, {d});
    p.k_norm = r.add(attention + "k_norm.weight", Role::norm, {d});
  }
  p.o = r.add(attention + "o_proj.weight", Role::matrix, {width, q});
  p.post_norm = r.add(prefix + "post_attention_layernorm.weight", Role::norm, {width});
  p.gate = r.add(prefix + "mlp.gate_proj.weight", Role::matrix, {mlp, width});
  p.up = r.add(prefix + "mlp.up_proj.weight", Role::matrix, {mlp, width}, true);
  p.down = r.add(prefix + "mlp.down_proj.weight", Role::matrix, {width, mlp});
  return p;
}

}  // namespace

int64_t head_dim(const ModelConfig& config) {
  return config.head_dim > 0 ? config.head_dim : config.hidden_size / config.num_attention_heads;
}

void check_sizes(const ModelConfig& c, std::string_view prefix) {
  namespace limits = model_limits;
  const auto range = [&](int64_t value, const char* key, int64_t low, int64_t high) {
    if (value < low || value > high)
      fail_usage("{}{}: found {}, expected {} to {}", prefix, key, value, low, high);
  };
  range(c.vocab_size, "vocab_size", 1, limits::kVocabSize);
  range(c.hidden_size, "hidden_size", 1, limits::kHiddenSize);
  range(c.num_hidden_layers, "num_hidden_layers", 1, limits::kLayers);
  range(c.num_attention_heads, "num_attention_heads", 1, limits::kHeads);
  range(c.num_key_value_heads, "num_key_value_heads", 1, limits::kHeads);
  range(c.intermediate_size, "intermediate_size", 1, limits::kIntermediateSize);
  range(c.max_position_embeddings, "max_position_embeddings", 0, limits::kPositions);
  range(c.sliding_window, "sliding_window", 0, limits::kPositions);
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    fail_usage("{}num_attention_heads: found {}, expected a multiple of num_key_value_heads ({})", prefix,
               c.num_attention_heads, c.num_key_value_heads);
  if (c.head_dim == 0 && c.hidden_size % c.num_attention_heads != 0)
    fail_usage("{}hidden_size: found {}, expected a multiple of num_attention_heads ({}); or set head_dim",
               prefix, c.hidden_size, c.num_attention_heads);
  if (c.head_dim < 0 || head_dim(c) < 2 || head_dim(c) > limits::kHeadDim || head_dim(c) % 2 != 0)
    fail_usage("{}head_dim: found {}, expected an even number (rotary embeddings turn pairs) from 2 to {}",
               prefix, c.head_dim != 0 ? c.head_dim : head_dim(c), limits::kHeadDim);
  if (const double count = approximate_parameters(c); count > static_cast<double>(limits::kParameters))
    fail_usage(
        "{}num_hidden_layers: {} layers of these sizes have {:.1e} parameters, expected at most {:.1e}",
        prefix, c.num_hidden_layers, count, static_cast<double>(limits::kParameters));
}

ModelParameters make_parameters(const ModelConfig& config) {
  check_sizes(config, "model.");
  ModelParameters m;
  m.embedding =
      m.registry.add("model.embed_tokens.weight", Role::embedding, {config.vocab_size, config.hidden_size});
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) m.layers.push_back(add_layer(m.registry, config, i));
  m.final_norm = m.registry.add("model.norm.weight", Role::norm, {config.hidden_size});
  m.head = config.tie_word_embeddings
               ? m.embedding
               : m.registry.add("lm_head.weight", Role::head, {config.vocab_size, config.hidden_size});
  return m;
}

double flops_per_token(const ModelConfig& config, int64_t sequence_length) {
  double multiplied = static_cast<double>(config.vocab_size * config.hidden_size);
  const ParameterRegistry registry = make_registry(config);
  for (const Parameter& p : registry.parameters())
    if (p.role == Role::matrix) multiplied += static_cast<double>(p.count());
  const double attention = static_cast<double>(config.num_hidden_layers) *
                           static_cast<double>(config.num_attention_heads * head_dim(config)) *
                           static_cast<double>(sequence_length);
  return 6.0 * multiplied + 6.0 * attention;
}

}  // namespace polar
