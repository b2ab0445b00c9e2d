// The parameters of a model: names, shapes and places, and the counts that follow from them.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "tensor/registry.h"

namespace polar {

// Indices into the registry for one layer; -1 where the architecture has no such parameter.
struct LayerParameters {
  int input_norm, q, k, v, q_bias, k_bias, v_bias, q_norm, k_norm, o, post_norm, gate, up, down;
};

// The registry of a whole model, and where each part of it stands. q|k|v (and their biases) and gate|up are
// joined.
struct ModelParameters {
  ParameterRegistry registry;
  int embedding = -1, final_norm = -1, head = -1;  // head == embedding when tied
  std::vector<LayerParameters> layers;
};

// Error (exit code 2) if a size is out of its limits (model/config.h) or the sizes do not fit together. The
// message names the key behind `prefix`: "model.", or "config.json: ".
void check_sizes(const ModelConfig& config, std::string_view prefix);

// Names as Hugging Face writes them. Errors: those of check_sizes.
ModelParameters make_parameters(const ModelConfig& config);
inline ParameterRegistry make_registry(const ModelConfig& config) {
  return make_parameters(config).registry;
}

// config.head_dim, or width / heads when it is 0.
int64_t head_dim(const ModelConfig& config);

// FLOPs of forward and backward for one token: 6 for every parameter that a GEMM multiplies with (the head,
// tied or not, but no embedding look-up) plus causal attention, 6 * L * T * Hq * D (half of the full T x T
// square).
double flops_per_token(const ModelConfig& config, int64_t sequence_length);

}  // namespace polar
