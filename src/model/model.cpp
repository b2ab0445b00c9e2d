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

// The deviation of a parameter's initial values; norms and biases have none.
double initial_deviation(const ModelConfig& config, const Parameter& p) {
  if (p.role == Role::norm || p.role == Role::bias) return 0.0;
  const bool residual = p.name.ends_with("o_proj.weight") || p.name.ends_with("down_proj.weight");
  if (!residual || !config.scale_residual_init) return config.initializer_range;
  return config.initializer_range / std::sqrt(2.0 * static_cast<double>(config.num_hidden_layers));
}

template <class T>
std::vector<T> initial(const ModelConfig& config, const Parameter& p, uint64_t seed) {
  std::vector<T> values(static_cast<size_t>(p.count()), p.role == Role::norm ? T{1} : T{0});
  const double deviation = initial_deviation(config, p);
  if (deviation == 0.0) return values;
  const uint64_t stream = stream_of(p.name.data(), p.name.size());
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<T>(deviation * random_normal(seed, stream, i));
  return values;
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
      gradient_count_(parameters_.registry.flat_count()),
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
  if (use_.own_parameters && !use_.weights_only)
    parameters_id_ = plan.add("parameters", "parameters", sums, {registry().flat_count()});
  if (use_.own_parameters && type != sums)
    weights_id_ = plan.add("parameters", "weights", type, {registry().flat_count()});
  if (use_.training) gradients_id_ = plan.add("gradients", "gradients", sums, {gradient_count_});
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
    weight_values_ = weights_id_ ? arena[weights_id_] : parameter_values_;
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
    // The gaps between parameters stay zero for good.
    if (parameter_values_) ops.fill(parameter_values_, 0.0);
    ops.fill(weight_values_, 0.0);
  }
  if (use_.training) ops.fill(gradient_values_, 0.0);
}

void Model::refresh_weights() {
  if (weight_values_.data != parameter_values_.data) ops_->cast(parameter_values_, weight_values_);
}

void Model::initialize(uint64_t seed) {
  for (int i = 0; i < static_cast<int>(registry().parameters().size()); ++i)
    if (use_.dtype == DType::f64)
      ops_->upload(parameter(i), initial<double>(config_, registry()[i], seed).data());
    else
      ops_->upload(parameter(i), initial_values(i, seed).data());
  refresh_weights();
}

std::vector<float> Model::initial_values(int parameter, uint64_t seed) const {
  return initial<float>(config_, registry()[parameter], seed);
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

void Model::loss_with_gradient(const ModelBatch& batch, double gradient_scale, const Tensor& loss_sum) {
  const int64_t rows = batch.batch * batch.time;
  CrossEntropy args = cross_entropy(batch);
  args.gradient_scale = gradient_scale;
  args.dhidden = delta_.slice(0, {rows, config_.hidden_size});
  args.dhead = gradient(parameters_.head);
  ops_->cross_entropy(args);
  ops_->sum(args.losses, loss_sum, true);

  ops_->fill(dresidual_.slice(0, {rows, config_.hidden_size}), 0.0);
  rms_norm_backward(delta_, final_input_, parameters_.final_norm, final_rstd_, rows);
}

void Model::run_stages(int64_t begin, int64_t end, const ModelBatch& batch, double gradient_scale,
                       const Tensor& loss_sum) {
  for (int64_t stage = begin; stage < end; ++stage) run_stage(stage, batch, gradient_scale, loss_sum);
}

void Model::run_stage(int64_t stage, const ModelBatch& batch, double gradient_scale, const Tensor& loss_sum) {
  const int64_t layers = config_.num_hidden_layers;
  if (stage == 0) return forward_embedding(batch);
  if (stage <= layers) return forward_layer(stage - 1, batch);
  if (stage == layers + 1) return loss_with_gradient(batch, gradient_scale, loss_sum);
  if (stage <= 2 * layers + 1) return backward_layer(2 * layers + 1 - stage, batch);
  ops_->embedding_backward(batch.ids, dresidual_.slice(0, {batch.batch * batch.time, config_.hidden_size}),
                           gradient(parameters_.embedding), workspace_);
}

std::vector<std::vector<int>> Model::joined_parameters() const {
  std::vector<std::vector<int>> all;
  for (const LayerParameters& p : parameters_.layers) {
    all.push_back({p.q, p.k, p.v});
    if (p.q_bias >= 0) all.push_back({p.q_bias, p.k_bias, p.v_bias});
    all.push_back({p.gate, p.up});
  }
  return all;
}

// -1: none.
int64_t Model::layer_with(int parameter) const {
  for (size_t i = 0; i < parameters_.layers.size(); ++i)
    if (parameter >= parameters_.layers[i].input_norm && parameter <= parameters_.layers[i].down)
      return static_cast<int64_t>(i);
  return -1;
}

int64_t Model::first_use(int parameter) const {
  const int64_t layer = layer_with(parameter);
  // A layer ends with the norm of the next one, the last layer with the final norm.
  if (layer >= 0)
    return parameter == parameters_.layers[static_cast<size_t>(layer)].input_norm ? layer : layer + 1;
  if (parameter == parameters_.embedding) return 0;
  return parameter == parameters_.final_norm ? config_.num_hidden_layers : config_.num_hidden_layers + 1;
}

int64_t Model::last_gradient(int parameter) const {
  const int64_t layer = layer_with(parameter), layers = config_.num_hidden_layers;
  if (layer >= 0) return 2 * layers + 1 - layer;
  return parameter == parameters_.embedding ? 2 * layers + 2 : layers + 1;
}

}  // namespace polar
