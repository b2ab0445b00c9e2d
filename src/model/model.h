// The decoder-only transformer (Qwen2/2.5, Qwen3): forward, loss and hand-derived backward over Ops, with
// every buffer from the memory plan. Structure of a layer (pre-norm; x is the residual stream):
//   x_mid = x + o_proj(attention(rope(qk_norm(qkv_proj(norm(x))))))      x_next = x_mid +
//   down(swiglu(gate_up(norm(x_mid))))
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/config.h"
#include "model/registry.h"
#include "ops/ops.h"
#include "tensor/memory_plan.h"

namespace polar {

// How a model is going to be used: decides which buffers it plans.
struct ModelUse {
  int64_t micro_sequences = 1;  // B at most
  int64_t time = 1;             // T at most
  DType dtype = DType::f32;     // of activations and products; bf16 keeps parameters and gradients in f32
  bool training = true;         // false: forward only, no gradients, activations shared between layers
  Recompute recompute = Recompute::none;
  // Decoding: positions of a cache of keys and values per layer (0: no cache). Needs training = false and
  // micro_sequences = 1; `time` is then the longest piece of text fed at once.
  int64_t cache_time = 0;
  bool own_parameters = true;  // false: no parameters are planned, share_parameters() brings them
  // bf16 only: the weights alone are planned; the parameters that they round are somebody else's.
  bool weights_only = false;
};

// One micro-batch in device memory. batch <= micro_sequences, time <= ModelUse::time.
struct ModelBatch {
  int64_t batch = 0, time = 0;
  Tensor ids;                  // i32 (batch * time)
  Tensor targets;              // i32 (batch * time), -1 is ignored
  Tensor document_starts;      // i32 (batch, time), or empty: documents are not masked
  int64_t first_position = 0;  // with a cache: positions [0, first_position) are already in it
};

class Model {
 public:
  Model(const ModelConfig& config, const ModelUse& use);

  const ModelConfig& config() const { return config_; }
  bool weights_only() const { return use_.weights_only; }
  const ParameterRegistry& registry() const { return parameters_.registry; }

  // Before plan(): where the gradient of each parameter stands, by its index, and how many elements all of
  // them take, instead of the registry's layout. Those of joined_parameters() must lie together in their
  // order.
  void place_gradients(std::vector<int64_t> offsets, int64_t count) {
    gradient_offsets_ = std::move(offsets);
    gradient_count_ = count;
  }
  // Adds every buffer to the plan (categories parameters, gradients, activations, workspace).
  void plan(MemoryPlan& plan, const Ops& ops);
  // Takes the memory of the plan; writes the constants (rotary table). `ops` and the arena's memory must
  // outlive it.
  void bind(Ops& ops, const Arena& arena);

  // Uses the parameters of another model of the same configuration (own_parameters = false).
  void share_parameters(const Model& other) {
    parameter_values_ = other.parameter_values_;
    weight_values_ = other.weight_values_;
  }

  // Flat buffers; those of parameters and weights have the registry's layout. The parameters are what is
  // trained and saved (f32, or f64 in tests); the products read the weights, which are the parameters
  // themselves or, in bf16, a rounded copy.
  const Tensor& parameters() const { return parameter_values_; }
  const Tensor& weights() const { return weight_values_; }
  // The weights if they are a copy, else empty: what an optimizer step has to write beside the parameters.
  Tensor rounded_weights() const {
    return weight_values_.data == parameter_values_.data ? Tensor{} : weight_values_;
  }
  const Tensor& gradients() const { return gradient_values_; }
  Tensor parameter(int index) const { return registry().view(parameter_values_, index); }
  Tensor weight(int index) const { return registry().view(weight_values_, index); }
  Tensor gradient(int index) const {
    return gradient_values_.slice(gradient_offset(index), registry()[index].shape);
  }
  // Those whose gradients one product or reduction writes together.
  std::vector<std::vector<int>> joined_parameters() const;

  // Makes the weights what the parameters are. To be called when these were written by anyone but
  // initialize().
  void refresh_weights();

  // Matrices and embeddings normal(0, initializer_range), norms 1, biases 0: each value a pure function of
  // (seed, parameter name, index).
  void initialize(uint64_t seed);
  // What initialize() gives a parameter (f32).
  std::vector<float> initial_values(int parameter, uint64_t seed) const;

  // gradients += d(gradient_scale * sum of row objectives); loss_sum (f64, 1) += the summed cross-entropy.
  void forward_backward(const ModelBatch& batch, double gradient_scale, const Tensor& loss_sum) {
    run_stages(0, stage_count(), batch, gradient_scale, loss_sum);
  }
  // Stages [begin, end) of forward_backward, for those who have something to do between two of them. With L
  // layers: 0 the embedding, 1 ... L the layers, L + 1 the loss and its gradient, then the layers in reverse
  // order, 2 L + 2 the gradient of the embedding.
  void run_stages(int64_t begin, int64_t end, const ModelBatch& batch, double gradient_scale,
                  const Tensor& loss_sum);
  int64_t stage_count() const { return 2 * config_.num_hidden_layers + 3; }
  // The first stage that reads a parameter's weight, and the last that adds to its gradient.
  int64_t first_use(int parameter) const;
  int64_t last_gradient(int parameter) const;
  // loss_sum (f64, 1) += the summed cross-entropy. token_losses() then holds each row's.
  void forward_loss(const ModelBatch& batch, const Tensor& loss_sum);
  // The final hidden states (batch * time, C), after the last norm. Logits are these times head()^T (before
  // soft-cap).
  MatrixView forward_hidden(const ModelBatch& batch);
  Tensor head() const { return weight(parameters_.head); }
  const Tensor& token_losses() const { return losses_; }  // (rows of the last micro-batch)

 private:
  // Buffers that one layer leaves for its backward pass; layers share those that are recomputed.
  struct LayerIds {
    BufferId input, mid, norm1, rstd1, qkv, qk, attention, lse, norm2, rstd2, gate_up, activation,
        cached_keys, cached_values;
  };
  struct LayerBuffers {
    Tensor input, mid, norm1, rstd1, qkv, qk, attention, lse, norm2, rstd2, gate_up, activation, cached_keys,
        cached_values;  // (cache_time, Hkv*D)
  };

  LayerIds plan_layer(MemoryPlan& plan, int64_t index, const LayerIds* shared) const;
  Tensor joined_weight(int first, int64_t rows) const;
  Tensor joined_gradient(int first, int64_t rows) const;
  int64_t gradient_offset(int index) const {
    return gradient_offsets_.empty() ? registry()[index].offset
                                     : gradient_offsets_[static_cast<size_t>(index)];
  }
  AttentionShape attention_shape(const ModelBatch& batch) const;

  int64_t layer_with(int parameter) const;
  void run_stage(int64_t stage, const ModelBatch& batch, double gradient_scale, const Tensor& loss_sum);
  void forward_layers(const ModelBatch& batch);
  void forward_embedding(const ModelBatch& batch);
  void forward_layer(int64_t layer, const ModelBatch& batch);
  void loss_with_gradient(const ModelBatch& batch, double gradient_scale, const Tensor& loss_sum);
  void backward_layer(int64_t layer, const ModelBatch& batch);
  void forward_attention(int64_t layer, const ModelBatch& batch);
  void forward_activation(int64_t layer, int64_t rows);
  void forward_mlp(int64_t layer, const ModelBatch& batch);
  void recompute_layer(int64_t layer, const ModelBatch& batch);
  void backward_mlp(int64_t layer, const ModelBatch& batch);
  void backward_attention(int64_t layer, const ModelBatch& batch);
  void rope_backward(int64_t layer, const ModelBatch& batch);
  void rms_norm(const Tensor& input, const Tensor& residual, const Tensor& sum, int weight,
                const Tensor& output, const Tensor& rstd, int64_t rows);
  void rms_norm_backward(const Tensor& doutput, const Tensor& input, int weight, const Tensor& rstd,
                         int64_t rows);
  // y = x W^T (+ bias);  dx = dy W;  dW += dy^T x
  void linear(const MatrixView& x, const Tensor& weight, const MatrixView& y, const Tensor& bias = {});
  void linear_backward(const MatrixView& dy, const MatrixView& x, const Tensor& weight, const Tensor& dweight,
                       const MatrixView& dx);
  CrossEntropy cross_entropy(const ModelBatch& batch) const;

  ModelConfig config_;
  ModelUse use_;
  ModelParameters parameters_;
  std::vector<int64_t> gradient_offsets_;  // empty: the registry's
  int64_t gradient_count_;
  int64_t head_dim_, q_width_, kv_width_, qkv_width_;

  BufferId parameters_id_, weights_id_, gradients_id_, rope_id_, final_input_id_, final_norm_id_,
      final_rstd_id_, losses_id_, delta_id_, dresidual_id_, dactivation_id_, dqkv_id_, dattention_id_,
      workspace_id_;
  std::vector<LayerIds> layer_ids_;

  Ops* ops_ = nullptr;
  Tensor parameter_values_, weight_values_, gradient_values_, rope_table_;
  Tensor final_input_, final_norm_, final_rstd_, losses_;
  Tensor delta_;      // (N, C): what a sub-layer adds to the residual stream; gradients of norm outputs
  Tensor dresidual_;  // (N, C): gradient of the residual stream
  Tensor dactivation_, dqkv_, dattention_, workspace_;
  std::vector<LayerBuffers> layers_;
};

// Writes cos | sin of the rotary angles for positions [0, positions) into a (positions, D) table on the
// device.
void write_rope_table(Ops& ops, const Tensor& table, double theta);

}  // namespace polar
