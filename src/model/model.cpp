// Planning, binding, initial values and the loss; the layers are in model_layers.cpp.
#include "model/model.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/random.h"

namespace polar {
namespace {

template <class T>
std::vector<T> rope_values(int64_t positions, int64_t width, double theta) {
  std::vector<T> values(static_cast<size_t>(positions * width));
  const int64_t half = width / 2;
  for (int64_t p = 0; p < positions; ++p)
    for (int64_t j = 0; j < half; ++j) {
      const double angle = static_cast<double>(p) *
                           std::pow(theta, -2.0 * static_cast<double>(j) / static_cast<double>(width));
      values[static_cast<size_t>(p * width + j)] = static_cast<T>(std::cos(angle));
      values[static_cast<size_t>(p * width + half + j)] = static_cast<T>(std::sin(angle));
    }
  return values;
}

// What is summed over many terms and what is trained: f32 even where activations and products are bf16.
DType sums_type(DType compute) {
  return compute == DType::f64 ? DType::f64 : DType::f32;
}

template <class T>
void upload_normal(Ops& ops, const Tensor& to, uint64_t seed, const std::string& name, double deviation) {
  std::vector<T> values(static_cast<size_t>(to.count()));
  const uint64_t stream = stream_of(name.data(), name.size());
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(deviation * random_normal(seed, stream, i));
  ops.upload(to, values.data());
}

}  // namespace

void write_rope_table(Ops& ops, const Tensor& table, double theta) {
  if (table.dtype == DType::f64)
    ops.upload(table, rope_values<double>(table.shape[0], table.shape[1], theta).data());
  else
    ops.upload(table, rope_values<float>(table.shape[0], table.shape[1], theta).data());
}

Model::Model(const ModelConfig& config, const ModelUse& use)
    : config_(config),
      use_(use),
      parameters_(make_parameters(config)),
      head_dim_(polar::head_dim(config)),
      q_width_(config.num_attention_heads * head_dim_),
      kv_width_(config.num_key_value_heads * head_dim_),
      qkv_width_(q_width_ + 2 * kv_width_) {
  const int64_t positions = std::max(use.time, use.cache_time);
  if (config.max_position_embeddings > 0 && positions > config.max_position_embeddings)
    fail_usage("a sequence of {} tokens is longer than model.max_position_embeddings ({})", positions,
               config.max_position_embeddings);
}

Model::LayerIds Model::plan_layer(MemoryPlan& plan, int64_t index, const LayerIds* shared) const {
  const int64_t rows = use_.micro_sequences * use_.time;
  const auto add = [&](const char* what, Shape shape) {
    return plan.add("activations", fmt::format("layer {} {}", index, what), use_.dtype, shape);
  };
  const auto add_sums = [&](const char* what, Shape shape) {
    return plan.add("activations", fmt::format("layer {} {}", index, what), sums_type(use_.dtype), shape);
  };
  // What may be shared with the other layers because the backward pass computes it again.
  const bool share_mlp = shared != nullptr && use_.recompute != Recompute::none;
  const bool share_all = shared != nullptr && (use_.recompute == Recompute::layer || !use_.training);
  LayerIds ids = share_all || share_mlp ? *shared : LayerIds{};
  ids.input = share_all && !use_.training ? shared->input : add("input", {rows, config_.hidden_size});
  if (use_.cache_time > 0) {
    ids.cached_keys = add("cached keys", {use_.cache_time, kv_width_});
    ids.cached_values = add("cached values", {use_.cache_time, kv_width_});
  }
  if (share_all) return ids;
  ids.mid = add("mid", {rows, config_.hidden_size});
  ids.norm1 = add("norm1", {rows, config_.hidden_size});
  ids.rstd1 = add_sums("rstd1", {rows});
  ids.qkv = add("qkv", {rows, qkv_width_});
  ids.qk = add("q and k, rotated", {rows, q_width_ + kv_width_});
  ids.attention = add("attention", {rows, q_width_});
  ids.lse = add_sums("attention lse", {rows * config_.num_attention_heads});
  ids.rstd2 = add_sums("rstd2", {rows});
  if (share_mlp) return ids;
  ids.norm2 = add("norm2", {rows, config_.hidden_size});
  ids.gate_up = add("gate and up", {rows, 2 * config_.intermediate_size});
  ids.activation = add("activation", {rows, config_.intermediate_size});
  return ids;
}

void Model::plan(MemoryPlan& plan, const Ops& ops) {
  const int64_t rows = use_.micro_sequences * use_.time, width = config_.hidden_size;
  const DType type = use_.dtype, sums = sums_type(type);
  if (use_.own_parameters)
    parameters_id_ = plan.add("parameters", "parameters", sums, {registry().flat_count()});
  if (use_.own_parameters && type != sums)
    weights_id_ = plan.add("parameters", "weights", type, {registry().flat_count()});
  if (use_.training) gradients_id_ = plan.add("gradients", "gradients", sums, {registry().flat_count()});
  rope_id_ = plan.add("activations", "rotary table", sums, {std::max(use_.time, use_.cache_time), head_dim_});
  layer_ids_.clear();
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i)
    layer_ids_.push_back(plan_layer(plan, i, i == 0 ? nullptr : &layer_ids_.front()));
  final_input_id_ = plan.add("activations", "final input", type, {rows, width});
  final_norm_id_ = plan.add("activations", "final norm", type, {rows, width});
  final_rstd_id_ = plan.add("activations", "final rstd", sums, {rows});
  losses_id_ = plan.add("activations", "token losses", sums, {rows});
  delta_id_ = plan.add("activations", "delta", type, {rows, width});
  AttentionShape attention = attention_shape({use_.micro_sequences, use_.time, {}, {}, {}, 0});
  attention.key_time = std::max(use_.time, use_.cache_time);
  size_t workspace = std::max(ops.attention_workspace(attention, type),
                              ops.cross_entropy_workspace(rows, width, config_.vocab_size, type));
  if (use_.training) {
    dresidual_id_ = plan.add("activations", "residual gradient", type, {rows, width});
    dactivation_id_ = plan.add("activations", "activation gradient", type, {rows, config_.intermediate_size});
    dqkv_id_ = plan.add("activations", "qkv gradient", type, {rows, qkv_width_});
    dattention_id_ = plan.add("activations", "attention gradient", type, {rows, q_width_});
    workspace =
        std::max({workspace, ops.embedding_backward_workspace(rows),
                  ops.rms_norm_backward_workspace(rows, width, type),
                  ops.qk_norm_rope_backward_workspace(rows, config_.num_attention_heads, head_dim_, type)});
  }
  workspace_id_ = plan.add("workspace", "model workspace", DType::f32,
                           {static_cast<int64_t>((workspace + sizeof(float) - 1) / sizeof(float))});
}

void Model::bind(Ops& ops, const Arena& arena) {
  ops_ = &ops;
  if (use_.own_parameters) {
    parameter_values_ = arena[parameters_id_];
    weight_values_ = use_.dtype == parameter_values_.dtype ? parameter_values_ : arena[weights_id_];
  }
  gradient_values_ = arena[gradients_id_];
  rope_table_ = arena[rope_id_];
  final_input_ = arena[final_input_id_];
  final_norm_ = arena[final_norm_id_];
  final_rstd_ = arena[final_rstd_id_];
  losses_ = arena[losses_id_];
  delta_ = arena[delta_id_];
  dresidual_ = arena[dresidual_id_];
  dactivation_ = arena[dactivation_id_];
  dqkv_ = arena[dqkv_id_];
  dattention_ = arena[dattention_id_];
  workspace_ = arena[workspace_id_];
  layers_.clear();
  for (const LayerIds& ids : layer_ids_)
    layers_.push_back({arena[ids.input], arena[ids.mid], arena[ids.norm1], arena[ids.rstd1], arena[ids.qkv],
                       arena[ids.qk], arena[ids.attention], arena[ids.lse], arena[ids.norm2],
                       arena[ids.rstd2], arena[ids.gate_up], arena[ids.activation], arena[ids.cached_keys],
                       arena[ids.cached_values]});
  write_rope_table(ops, rope_table_, config_.rope_theta);
  if (use_.own_parameters) {
    ops.fill(parameter_values_, 0.0);  // the gaps between parameters stay zero for good
    refresh_weights();
  }
  if (use_.training) ops.fill(gradient_values_, 0.0);
}

void Model::refresh_weights() {
  if (weight_values_.data != parameter_values_.data) ops_->cast(parameter_values_, weight_values_);
}

void Model::initialize(uint64_t seed) {
  const double residual_factor = config_.scale_residual_init
                                     ? 1.0 / std::sqrt(2.0 * static_cast<double>(config_.num_hidden_layers))
                                     : 1.0;
  for (int i = 0; i < static_cast<int>(registry().parameters().size()); ++i) {
    const Parameter& p = registry()[i];
    if (p.role == Role::norm || p.role == Role::bias) {
      ops_->fill(parameter(i), p.role == Role::norm ? 1.0 : 0.0);
      continue;
    }
    const bool residual = p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight");
    const double deviation = config_.initializer_range * (residual ? residual_factor : 1.0);
    if (use_.dtype == DType::f64)
      upload_normal<double>(*ops_, parameter(i), seed, p.name, deviation);
    else
      upload_normal<float>(*ops_, parameter(i), seed, p.name, deviation);
  }
  refresh_weights();
}

CrossEntropy Model::cross_entropy(const ModelBatch& batch) const {
  const int64_t rows = batch.batch * batch.time;
  CrossEntropy args;
  args.hidden = final_norm_.slice(0, {rows, config_.hidden_size});
  args.head = head();
  args.targets = batch.targets;
  args.z_loss = config_.z_loss;
  args.softcap = config_.logit_softcap;
  args.losses = losses_.slice(0, {rows});
  args.workspace = workspace_;
  return args;
}

void Model::forward_loss(const ModelBatch& batch, const Tensor& loss_sum) {
  forward_layers(batch);
  const CrossEntropy args = cross_entropy(batch);
  ops_->cross_entropy(args);
  ops_->sum(args.losses, loss_sum, true);
}

MatrixView Model::forward_hidden(const ModelBatch& batch) {
  forward_layers(batch);
  return final_norm_.slice(0, {batch.batch * batch.time, config_.hidden_size});
}

void Model::forward_backward(const ModelBatch& batch, double gradient_scale, const Tensor& loss_sum) {
  const int64_t rows = batch.batch * batch.time;
  forward_layers(batch);

  CrossEntropy args = cross_entropy(batch);
  args.gradient_scale = gradient_scale;
  args.dhidden = delta_.slice(0, {rows, config_.hidden_size});
  args.dhead = gradient(parameters_.head);
  ops_->cross_entropy(args);
  ops_->sum(args.losses, loss_sum, true);

  ops_->fill(dresidual_.slice(0, {rows, config_.hidden_size}), 0.0);
  rms_norm_backward(delta_, final_input_, parameters_.final_norm, final_rstd_, rows);
  for (int64_t layer = config_.num_hidden_layers - 1; layer >= 0; --layer) {
    recompute_layer(layer, batch);
    backward_mlp(layer, batch);
    backward_attention(layer, batch);
  }
  ops_->embedding_backward(batch.ids, dresidual_.slice(0, {rows, config_.hidden_size}),
                           gradient(parameters_.embedding), workspace_);
}

}  // namespace polar
