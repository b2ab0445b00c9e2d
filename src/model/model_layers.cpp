// The layers of the model, forward and backward. Shapes: N = batch * time rows, C width, I MLP width.
#include <cmath>

#include "model/model.h"

namespace polar {

AttentionShape Model::attention_shape(const ModelBatch& batch) const {
  AttentionShape shape;
  shape.batch = batch.batch;
  shape.query_time = batch.time;
  shape.key_time = batch.first_position + batch.time;
  shape.heads_q = config_.num_attention_heads;
  shape.heads_kv = config_.num_key_value_heads;
  shape.head_dim = head_dim_;
  shape.window = config_.sliding_window;
  shape.scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));
  return shape;
}

// The weight of one GEMM that reads several parameters: `rows` rows from the first one on.
Tensor Model::joined_weight(int first, int64_t rows) const {
  return weight_values_.slice(registry()[first].offset, {rows, registry()[first].shape[1]});
}

Tensor Model::joined_gradient(int first, int64_t rows) const {
  return gradient_values_.slice(gradient_offset(first), {rows, registry()[first].shape[1]});
}

void Model::linear(const MatrixView& x, const Tensor& weight, const MatrixView& y, const Tensor& bias) {
  if (bias)
    ops_->gemm_bias(Transpose::no, Transpose::yes, 1.0, x, weight, 0.0, y, bias);
  else
    ops_->gemm(Transpose::no, Transpose::yes, 1.0, x, weight, 0.0, y);
}

void Model::linear_backward(const MatrixView& dy, const MatrixView& x, const Tensor& weight,
                            const Tensor& dweight, const MatrixView& dx) {
  ops_->gemm(Transpose::yes, Transpose::no, 1.0, dy, x, 1.0, dweight);
  ops_->gemm(Transpose::no, Transpose::no, 1.0, dy, weight, 0.0, dx);
}

// sum = input + residual (or just input when there is no residual), output = norm(sum)
void Model::rms_norm(const Tensor& input, const Tensor& residual, const Tensor& sum, int weight,
                     const Tensor& output, const Tensor& rstd, int64_t rows) {
  const Shape shape{rows, config_.hidden_size};
  RmsNormForward args;
  args.input = input.slice(0, shape);
  if (residual) {
    args.residual = residual.slice(0, shape);
    args.sum = sum.slice(0, shape);
  }
  args.weight = Model::weight(weight);
  args.eps = config_.rms_norm_eps;
  args.output = output.slice(0, shape);
  args.rstd = rstd.slice(0, {rows});
  ops_->rms_norm_forward(args);
}

// dresidual += gradient of the norm's input
void Model::rms_norm_backward(const Tensor& doutput, const Tensor& input, int weight, const Tensor& rstd,
                              int64_t rows) {
  const Shape shape{rows, config_.hidden_size};
  RmsNormBackward args;
  args.doutput = doutput.slice(0, shape);
  args.input = input.slice(0, shape);
  args.weight = Model::weight(weight);
  args.rstd = rstd.slice(0, {rows});
  args.dinput = dresidual_.slice(0, shape);
  args.dweight = gradient(weight);
  args.workspace = workspace_;
  ops_->rms_norm_backward(args);
}

void Model::forward_layers(const ModelBatch& batch) {
  forward_embedding(batch);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) forward_layer(i, batch);
}

// input of the first layer, and its norm
void Model::forward_embedding(const ModelBatch& batch) {
  const int64_t rows = batch.batch * batch.time;
  const LayerBuffers& first = layers_.front();
  ops_->embedding_forward(batch.ids, weight(parameters_.embedding),
                          first.input.slice(0, {rows, config_.hidden_size}));
  rms_norm(first.input, {}, {}, parameters_.layers.front().input_norm, first.norm1, first.rstd1, rows);
}

// input and norm of the next layer, or of the head
void Model::forward_layer(int64_t layer, const ModelBatch& batch) {
  const int64_t rows = batch.batch * batch.time;
  const auto at = static_cast<size_t>(layer);
  LayerBuffers& l = layers_[at];
  forward_attention(layer, batch);
  rms_norm(delta_, l.input, l.mid, parameters_.layers[at].post_norm, l.norm2, l.rstd2, rows);
  forward_mlp(layer, batch);
  if (layer + 1 < config_.num_hidden_layers)
    rms_norm(delta_, l.mid, layers_[at + 1].input, parameters_.layers[at + 1].input_norm,
             layers_[at + 1].norm1, layers_[at + 1].rstd1, rows);
  else
    rms_norm(delta_, l.mid, final_input_, parameters_.final_norm, final_norm_, final_rstd_, rows);
}

void Model::backward_layer(int64_t layer, const ModelBatch& batch) {
  recompute_layer(layer, batch);
  backward_mlp(layer, batch);
  backward_attention(layer, batch);
}

// delta = o_proj(attention(norm1))
void Model::forward_attention(int64_t layer, const ModelBatch& batch) {
  const int64_t rows = batch.batch * batch.time;
  const LayerParameters& p = parameters_.layers[static_cast<size_t>(layer)];
  LayerBuffers& l = layers_[static_cast<size_t>(layer)];
  const MatrixView qkv = l.qkv.slice(0, {rows, qkv_width_});
  const MatrixView qk = l.qk.slice(0, {rows, q_width_ + kv_width_});
  const MatrixView attention = l.attention.slice(0, {rows, q_width_});

  const Tensor bias =
      p.q_bias < 0 ? Tensor{} : weight_values_.slice(registry()[p.q_bias].offset, {qkv_width_});
  linear(l.norm1.slice(0, {rows, config_.hidden_size}), joined_weight(p.q, qkv_width_), qkv, bias);

  QkNormRopeForward rope;
  rope.time = batch.time;
  rope.first_position = batch.first_position;
  rope.head_dim = head_dim_;
  rope.eps = config_.rms_norm_eps;
  rope.rope_table = rope_table_;
  rope.heads = config_.num_attention_heads;
  rope.input = qkv.columns(0, q_width_);
  rope.output = qk.columns(0, q_width_);
  if (p.q_norm >= 0) rope.weight = weight(p.q_norm);
  ops_->qk_norm_rope_forward(rope);
  rope.heads = config_.num_key_value_heads;
  rope.input = qkv.columns(q_width_, kv_width_);
  rope.output = qk.columns(q_width_, kv_width_);
  if (p.k_norm >= 0) rope.weight = weight(p.k_norm);
  ops_->qk_norm_rope_forward(rope);

  AttentionForward args;
  args.shape = attention_shape(batch);
  args.q = qk.columns(0, q_width_);
  args.k = qk.columns(q_width_, kv_width_);
  args.v = qkv.columns(q_width_ + kv_width_, kv_width_);
  if (l.cached_keys) {  // decoding: append this piece to the cache, attend to all of it
    ops_->copy_rows(args.k, MatrixView(l.cached_keys).rows_from(batch.first_position, rows));
    ops_->copy_rows(args.v, MatrixView(l.cached_values).rows_from(batch.first_position, rows));
    args.k = MatrixView(l.cached_keys).rows_from(0, args.shape.key_time);
    args.v = MatrixView(l.cached_values).rows_from(0, args.shape.key_time);
  }
  args.document_starts = batch.document_starts;
  args.output = attention;
  args.lse = l.lse.slice(0, {batch.batch, config_.num_attention_heads, batch.time});
  args.workspace = workspace_;
  ops_->attention_forward(args);
  linear(attention, weight(p.o), delta_.slice(0, {rows, config_.hidden_size}));
}

// activation = swiglu(gate_up(norm2))
void Model::forward_activation(int64_t layer, int64_t rows) {
  const int64_t mlp = config_.intermediate_size;
  const LayerParameters& p = parameters_.layers[static_cast<size_t>(layer)];
  LayerBuffers& l = layers_[static_cast<size_t>(layer)];
  const MatrixView gate_up = l.gate_up.slice(0, {rows, 2 * mlp});
  linear(l.norm2.slice(0, {rows, config_.hidden_size}), joined_weight(p.gate, 2 * mlp), gate_up);
  ops_->swiglu_forward(gate_up, l.activation.slice(0, {rows, mlp}));
}

// delta = down_proj(activation)
void Model::forward_mlp(int64_t layer, const ModelBatch& batch) {
  const int64_t rows = batch.batch * batch.time;
  const LayerParameters& p = parameters_.layers[static_cast<size_t>(layer)];
  const LayerBuffers& l = layers_[static_cast<size_t>(layer)];
  forward_activation(layer, rows);
  linear(l.activation.slice(0, {rows, config_.intermediate_size}), weight(p.down),
         delta_.slice(0, {rows, config_.hidden_size}));
}

// Computes again what the layers share (see plan_layer), by the same operations and so to the same bits.
void Model::recompute_layer(int64_t layer, const ModelBatch& batch) {
  if (use_.recompute == Recompute::none) return;
  const int64_t rows = batch.batch * batch.time;
  const LayerParameters& p = parameters_.layers[static_cast<size_t>(layer)];
  LayerBuffers& l = layers_[static_cast<size_t>(layer)];
  if (use_.recompute == Recompute::layer) {
    rms_norm(l.input, {}, {}, p.input_norm, l.norm1, l.rstd1, rows);
    forward_attention(layer, batch);
    rms_norm(delta_, l.input, l.mid, p.post_norm, l.norm2, l.rstd2, rows);
  } else {
    rms_norm(l.mid, {}, {}, p.post_norm, l.norm2, l.rstd2, rows);
  }
  forward_activation(layer, rows);
}

void Model::backward_mlp(int64_t layer, const ModelBatch& batch) {
  const int64_t rows = batch.batch * batch.time, mlp = config_.intermediate_size, width = config_.hidden_size;
  const LayerParameters& p = parameters_.layers[static_cast<size_t>(layer)];
  LayerBuffers& l = layers_[static_cast<size_t>(layer)];
  const MatrixView dresidual = dresidual_.slice(0, {rows, width});
  const MatrixView dactivation = dactivation_.slice(0, {rows, mlp});
  const MatrixView gate_up = l.gate_up.slice(0, {rows, 2 * mlp});

  linear_backward(dresidual, l.activation.slice(0, {rows, mlp}), weight(p.down), gradient(p.down),
                  dactivation);
  ops_->swiglu_backward(dactivation, gate_up, gate_up);  // in place: gate_up is not needed any more
  linear_backward(gate_up, l.norm2.slice(0, {rows, width}), joined_weight(p.gate, 2 * mlp),
                  joined_gradient(p.gate, 2 * mlp), delta_.slice(0, {rows, width}));
  rms_norm_backward(delta_, l.mid, p.post_norm, l.rstd2, rows);
}

void Model::backward_attention(int64_t layer, const ModelBatch& batch) {
  const int64_t rows = batch.batch * batch.time, width = config_.hidden_size;
  const LayerParameters& p = parameters_.layers[static_cast<size_t>(layer)];
  LayerBuffers& l = layers_[static_cast<size_t>(layer)];
  const MatrixView qk = l.qk.slice(0, {rows, q_width_ + kv_width_});
  const MatrixView qkv = l.qkv.slice(0, {rows, qkv_width_});
  const MatrixView dqkv = dqkv_.slice(0, {rows, qkv_width_});
  const MatrixView attention = l.attention.slice(0, {rows, q_width_});
  const MatrixView dattention = dattention_.slice(0, {rows, q_width_});

  linear_backward(dresidual_.slice(0, {rows, width}), attention, weight(p.o), gradient(p.o), dattention);
  AttentionBackward args;
  args.shape = attention_shape(batch);
  args.q = qk.columns(0, q_width_);
  args.k = qk.columns(q_width_, kv_width_);
  args.v = qkv.columns(q_width_ + kv_width_, kv_width_);
  args.document_starts = batch.document_starts;
  args.output = attention;
  args.doutput = dattention;
  args.lse = l.lse.slice(0, {batch.batch, config_.num_attention_heads, batch.time});
  args.dq = dqkv.columns(0, q_width_);
  args.dk = dqkv.columns(q_width_, kv_width_);
  args.dv = dqkv.columns(q_width_ + kv_width_, kv_width_);
  args.workspace = workspace_;
  ops_->attention_backward(args);
  rope_backward(layer, batch);
  if (p.q_bias >= 0)
    ops_->bias_backward(dqkv, gradient_values_.slice(gradient_offset(p.q_bias), {qkv_width_}));
  linear_backward(dqkv, l.norm1.slice(0, {rows, width}), joined_weight(p.q, qkv_width_),
                  joined_gradient(p.q, qkv_width_), delta_.slice(0, {rows, width}));
  rms_norm_backward(delta_, l.input, p.input_norm, l.rstd1, rows);
}

// Gradients of the rotated, normed q and k become those of the raw ones, in place in dqkv.
void Model::rope_backward(int64_t layer, const ModelBatch& batch) {
  const int64_t rows = batch.batch * batch.time;
  const LayerParameters& p = parameters_.layers[static_cast<size_t>(layer)];
  const MatrixView qkv = layers_[static_cast<size_t>(layer)].qkv.slice(0, {rows, qkv_width_});
  const MatrixView dqkv = dqkv_.slice(0, {rows, qkv_width_});
  QkNormRopeBackward args;
  args.time = batch.time;
  args.head_dim = head_dim_;
  args.eps = config_.rms_norm_eps;
  args.rope_table = rope_table_;
  args.workspace = workspace_;
  const auto part = [&](int64_t heads, int64_t begin, int norm) {
    args.heads = heads;
    args.input = qkv.columns(begin, heads * head_dim_);
    args.dgradient = dqkv.columns(begin, heads * head_dim_);
    args.weight = norm >= 0 ? weight(norm) : Tensor{};
    args.dweight = norm >= 0 ? gradient(norm) : Tensor{};
    ops_->qk_norm_rope_backward(args);
  };
  part(config_.num_attention_heads, 0, p.q_norm);
  part(config_.num_key_value_heads, q_width_, p.k_norm);
}

}  // namespace polar
