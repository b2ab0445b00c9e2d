#include "model/registry.h"

#include <string>

#include "base/error.h"

namespace polar {
namespace {

void check(const ModelConfig& c) {
  const auto positive = [](int64_t value, const char* key) {
    if (value <= 0) fail_usage("model.{}: found {}, expected a positive number", key, value);
  };
  positive(c.vocab_size, "vocab_size");
  positive(c.hidden_size, "hidden_size");
  positive(c.num_hidden_layers, "num_hidden_layers");
  positive(c.num_attention_heads, "num_attention_heads");
  positive(c.num_key_value_heads, "num_key_value_heads");
  positive(c.intermediate_size, "intermediate_size");
  if (c.num_attention_heads % c.num_key_value_heads != 0)
    fail_usage("model.num_attention_heads: found {}, expected a multiple of num_key_value_heads ({})",
               c.num_attention_heads, c.num_key_value_heads);
  if (c.head_dim == 0 && c.hidden_size % c.num_attention_heads != 0)
    fail_usage(
        "model.hidden_size: found {}, expected a multiple of num_attention_heads ({}); or set head_dim",
        c.hidden_size, c.num_attention_heads);
  if (head_dim(c) < 2 || head_dim(c) % 2 != 0)
    fail_usage("model.head_dim: found {}, expected an even number (rotary embeddings turn pairs)",
               head_dim(c));
}

LayerParameters add_layer(ParameterRegistry& r, const ModelConfig& c, int64_t index) {
  const int64_t width = c.hidden_size, d = head_dim(c);
  const int64_t q = c.num_attention_heads * d, kv = c.num_key_value_heads * d, mlp = c.intermediate_size;
  const std::string prefix = fmt::format("model.layers.{}.", index);
  const std::string attention = prefix + "self_attn.";
  LayerParameters p{};
  p.input_norm = r.add(prefix + "input_layernorm.weight", Role::norm, {width});
  p.q = r.add(attention + "q_proj.weight", Role::matrix, {q, width});
  p.k = r.add(attention + "k_proj.weight", Role::matrix, {kv, width}, true);
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

ModelParameters make_parameters(const ModelConfig& config) {
  check(config);
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
  const double attention = static_cast<double>(config.num_hidden_layers * config.num_attention_heads *
                                               head_dim(config) * sequence_length);
  return 6.0 * multiplied + 6.0 * attention;
}

}  // namespace polar
