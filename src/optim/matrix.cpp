#include "optim/matrix.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace polar {
namespace {

// Bytes of the matrices that the oracle takes together; a single larger one is still taken, by itself. In
// host memory they should stay in the cache through all its steps, on a device they should fill it.
int64_t batch_bytes(const Ops& ops) {
  return ops.host_memory() ? int64_t{4} << 20 : int64_t{64} << 20;
}

std::string_view name_of(MomentumKind kind) {
  switch (kind) {
    case MomentumKind::first:
      return "first";
    case MomentumKind::polar_first:
      return "polar_first";
    case MomentumKind::heavy_ball:
      return "heavy_ball";
    case MomentumKind::lion:
      return "lion";
    case MomentumKind::none:
      break;
  }
  return "none";
}

std::string_view name_of(ScaleKind kind) {
  switch (kind) {
    case ScaleKind::nuclear:
      return "nuclear";
    case ScaleKind::rms_match:
      return "rms_match";
    case ScaleKind::spectral:
      return "spectral";
    case ScaleKind::jordan:
      return "jordan";
    case ScaleKind::none:
      break;
  }
  return "none";
}

void check(const GroupConfig& config) {
  const MomentumConfig& momentum = config.momentum;
  const bool looks_ahead = momentum.kind != MomentumKind::none && momentum.kind != MomentumKind::lion;
  if (momentum.nesterov && !looks_ahead)
    fail_usage(
        "optimizer group {}: momentum {} with nesterov: true; expected another momentum, or nesterov: "
        "false",
        config.name, name_of(momentum.kind));
  const auto check_decay = [&](const char* key, double value) {
    if (!(value >= 0.0 && value < 1.0))
      fail_usage("optimizer group {}: {}: found {}, expected a number at least 0 and below 1", config.name,
                 key, value);
  };
  if (momentum.kind != MomentumKind::none) check_decay("momentum.beta", momentum.beta);
  if (momentum.kind == MomentumKind::lion && !(momentum.interpolation > 0.0 && momentum.interpolation < 1.0))
    fail_usage(
        "optimizer group {}: momentum.interpolation: found {}, expected a number between 0 and 1 (for 0 "
        "take momentum none)",
        config.name, momentum.interpolation);
  if (momentum.warmup_steps > 0) check_decay("momentum.warmup_beta", momentum.warmup_beta);
  check_decay("neuron_beta", config.neuron_beta);
  if (config.neuron_beta > 0.0 &&
      (momentum.kind == MomentumKind::polar_first || takes_vectors(config.oracle.kind)))
    fail_usage(
        "optimizer group {}: neuron_beta: found {}, expected 0: it scales the orthogonal factor that the "
        "step "
        "takes, and with momentum polar_first, or oracle sign or identity, there is none",
        config.name, config.neuron_beta);
}

}  // namespace

MatrixGroup::MatrixGroup(GroupConfig config, std::vector<Member> members, DType dtype)
    : Group(std::move(config), std::move(members)),
      dtype_(dtype),
      oracle_(config_.oracle),
      parts_(matrix_parts(members_, config_.per_head)) {
  check(config_);
}

bool MatrixGroup::gradient_momentum() const {
  const MomentumKind kind = config_.momentum.kind;
  return kind == MomentumKind::first || kind == MomentumKind::heavy_ball || kind == MomentumKind::lion;
}

bool MatrixGroup::momentum_is_input() const {
  return gradient_momentum() && !config_.momentum.nesterov && config_.momentum.kind != MomentumKind::lion;
}

bool MatrixGroup::separate_input() const {
  // <U, M> takes both in one format.
  const bool buffer_is_there = polar_dtype_ == dtype_ && momentum_is_input();
  return config_.scale.kind == ScaleKind::nuclear && !oracle_.keeps_input() && !buffer_is_there;
}

void MatrixGroup::plan(MemoryPlan& memory, const Ops& ops, MatrixScratch& scratch) {
  polar_dtype_ = scratch.dtype();
  batches_ = matrix_batches(parts_, size_of(dtype_), batch_bytes(ops));
  int64_t count = 0, neurons = 0;
  for (const MatrixBatch& batch : batches_) {
    MatrixScratch::Need need =
        oracle_.need(ops, batch.shape[0], batch.shape[1], batch.shape[2], polar_dtype_);
    if (separate_input()) need.input = batch.shape.count();
    need.unscaled_control = config_.momentum.kind == MomentumKind::polar_first;
    scratch.require(need);
    count += batch.shape.count();
    neurons += batch.neurons();
  }
  if (config_.momentum.kind != MomentumKind::none)
    momentum_id_ = memory.add("optimizer", "matrix.momentum", dtype_, {count});
  if (config_.neuron_beta > 0.0) neurons_id_ = memory.add("optimizer", "matrix.neurons", dtype_, {neurons});
  places_id_ = memory.add("workspace", "matrix.places", DType::f64, {3 * std::ssize(parts_)});
}

void MatrixGroup::bind(Ops& ops, const Arena& arena) {
  momentum_ = arena[momentum_id_];
  neurons_ = arena[neurons_id_];
  places_ = arena[places_id_];
  if (momentum_) ops.fill(momentum_, 0.0);
  if (neurons_) ops.fill(neurons_, 0.0);
  std::vector<double> places;
  for (const auto place : {&MatrixPart::gradient, &MatrixPart::offset, &MatrixPart::weight})
    for (const MatrixPart& part : parts_) places.push_back(static_cast<double>(part.*place));
  if (!places.empty()) ops.upload(places_, places.data());
}

void MatrixGroup::step(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch& scratch) {
  for (const MatrixBatch& batch : batches_) {
    Work work{.ops = ops,
              .scratch = scratch,
              .batch = batch,
              .lr = lr,
              .tensors = tensors,
              .momentum = momentum_ ? momentum_.slice(batch.state_offset, batch.shape) : Tensor{},
              .x = scratch.x.slice(0, batch.shape),
              .y = scratch.y.slice(0, batch.shape),
              .seen = {}};
    step_batch(work);
  }
}

void MatrixGroup::step_batch(Work& work) const {
  prepare(work);
  const MatrixBatch& batch = work.batch;
  const Tensor u = factor(work);
  if (config_.scale.kind == ScaleKind::nuclear)
    work.ops.polar_inner(u, work.seen, work.scratch.nuclear.slice(0, {batch.shape[0]}));
  if (neurons_)
    work.ops.normalize_neurons(u, neurons_.slice(batch.neuron_offset, {batch.neurons()}), config_.neuron_beta,
                               work.tensors.control);
  update(work, config_.momentum.kind == MomentumKind::polar_first ? average_factors(work, u) : u);
}

// By the oracle; its errors know shapes, and get the names here.
Tensor MatrixGroup::factor(const Work& work) const {
  try {
    return oracle_.factor(work.ops, work.x, work.y, work.scratch);
  } catch (const Error& error) {
    std::vector<size_t> members;
    for (size_t i = work.batch.begin; i < work.batch.end; ++i)
      if (members.empty() || members.back() != parts_[i].member) members.push_back(parts_[i].member);
    fail_for(work.ops, work.tensors, members, error);
  }
}

// Where the parts of a batch begin: 0 in the gradients, 1 in the parameters, 2 in the weights.
Tensor MatrixGroup::places(const MatrixBatch& batch, int64_t buffer) const {
  return places_.slice(buffer * std::ssize(parts_) + static_cast<int64_t>(batch.begin), {batch.shape[0]});
}

// The gradients themselves into `target`.
MomentumUpdate MatrixGroup::gradient_args(const Work& work, const Tensor& target) const {
  return {.gradient = work.tensors.gradients,
          .buffer = target,
          .out = {},
          .beta = 0.0,
          .gain = 1.0,
          .nesterov = false,
          .control = work.tensors.control,
          .places = places(work.batch, 0)};
}

// From the gradients into `target`, by way of the momentum if there is one before the oracle.
MomentumUpdate MatrixGroup::momentum_args(const Work& work, const Tensor& target) const {
  const MomentumConfig& config = config_.momentum;
  MomentumUpdate args = gradient_args(work, target);
  if (!gradient_momentum()) return args;
  args.buffer = work.momentum;
  if (target.data != work.momentum.data) args.out = target;
  args.beta = config.beta;
  args.average = config.kind != MomentumKind::heavy_ball;
  args.gain = args.average ? 1.0 - config.beta : 1.0;
  args.nesterov = config.nesterov;
  if (config.warmup_steps > 0) args.beta_now = work.tensors.betas;
  if (config.kind == MomentumKind::lion) args.interpolation = config.interpolation;
  return args;
}

// Brings the momentum up to date and the oracle's input into place.
void MatrixGroup::prepare(Work& work) const {
  if (momentum_is_input() && oracle_.keeps_input()) work.x = work.momentum;
  const Tensor target = separate_input() ? work.scratch.input.slice(0, work.batch.shape) : work.x;
  work.seen = momentum_is_input() && !separate_input() ? work.momentum : target;
  work.ops.momentum_update(momentum_args(work, target));
  if (target.data != work.x.data) work.ops.copy(target, work.x);
}

// polar_first: the direction is the moving average of the factors. Their scale is 1 whatever the gradient
// was multiplied with, so the clipping factor must not enter again.
Tensor MatrixGroup::average_factors(const Work& work, const Tensor& u) const {
  const MomentumConfig& config = config_.momentum;
  const Tensor free = u.data == work.x.data ? work.y : work.x;
  work.ops.momentum_update({.gradient = u,
                            .buffer = work.momentum,
                            .out = config.nesterov ? free : Tensor{},
                            .beta = config.beta,
                            .gain = 1.0 - config.beta,
                            .nesterov = config.nesterov,
                            .control = work.scratch.unscaled_control,
                            .beta_now = config.warmup_steps > 0 ? work.tensors.betas : Tensor{},
                            .average = true});
  return config.nesterov ? free : work.momentum;
}

void MatrixGroup::update(const Work& work, const Tensor& direction) const {
  const MatrixBatch& batch = work.batch;
  const bool nuclear = config_.scale.kind == ScaleKind::nuclear;
  work.ops.matrix_update({.parameter = work.tensors.parameters,
                          .direction = direction,
                          .scale = nuclear ? work.scratch.nuclear.slice(0, {batch.shape[0]}) : Tensor{},
                          .exponent = config_.scale.alpha,
                          .lr = work.lr,
                          .multiplier = multiplier(config_.scale, parts_[batch.begin].sides),
                          .weight_decay = config_.weight_decay,
                          .control = work.tensors.control,
                          .weight = work.tensors.weights,
                          .cautious = config_.cautious_decay,
                          .places = places(batch, 1),
                          .weight_places = places(batch, 2)});
}

std::vector<StateTensor> MatrixGroup::state() const {
  std::vector<StateTensor> list;
  for (const MatrixBatch& batch : batches_) {
    const Shape one{batch.shape[1], batch.shape[2]};
    const int64_t neurons = batch.neurons() / batch.shape[0];
    for (size_t i = batch.begin; i < batch.end; ++i) {
      if (!parts_[i].first) continue;
      const Member& member = members_[parts_[i].member];
      const auto place = static_cast<int64_t>(i - batch.begin);
      // Heads lie one after the other in the state as they do in the parameter.
      if (config_.momentum.kind != MomentumKind::none)
        list.push_back({"matrix.momentum:" + member.name,
                        momentum_.slice(batch.state_offset + place * one.count(),
                                        member.whole() ? member.shape : Shape{member.count}),
                        member.begin, member.whole()});
      if (config_.neuron_beta > 0.0)
        list.push_back({"matrix.neurons:" + member.name,
                        neurons_.slice(batch.neuron_offset + place * neurons,
                                       {member.shape.count() / one.count() * neurons}),
                        0, true});
    }
  }
  return list;
}

double MatrixGroup::multiplier(const ScaleConfig& scale, const Shape& shape) {
  const auto m = static_cast<double>(shape[0]), n = static_cast<double>(shape[1]);
  switch (scale.kind) {
    case ScaleKind::jordan:
      return scale.factor * std::sqrt(std::max(1.0, m / n));
    case ScaleKind::rms_match:
      return scale.factor * 0.2 * std::sqrt(std::max(m, n));
    case ScaleKind::spectral:
      return scale.factor * std::sqrt(m / n);
    case ScaleKind::nuclear:
    case ScaleKind::none:
      break;
  }
  return scale.factor;
}

Rule MatrixGroup::rule(const Member& member) const {
  const MomentumConfig& momentum = config_.momentum;
  Rule rule;
  rule.method = name_of(momentum.kind);
  if (momentum.kind == MomentumKind::lion) rule.method += fmt::format(" {}", momentum.interpolation);
  if (momentum.kind != MomentumKind::none) rule.method += fmt::format(" {}", momentum.beta);
  if (momentum.warmup_steps > 0)
    rule.method += fmt::format(" (from {} in {} steps)", momentum.warmup_beta, momentum.warmup_steps);
  if (momentum.nesterov) rule.method += " nesterov";
  rule.method += ", " + oracle_.text();
  if (config_.neuron_beta > 0.0) rule.method += fmt::format(", neurons {}", config_.neuron_beta);
  const MatrixPart part = matrix_parts({member}, config_.per_head).front();
  if (config_.per_head && member.heads > 1) rule.method += fmt::format(", {} heads", member.heads);
  if (config_.cautious_decay) rule.method += ", cautious decay";
  rule.scale =
      fmt::format("{} -> x{:.4g}", name_of(config_.scale.kind), multiplier(config_.scale, part.sides));
  if (config_.scale.kind == ScaleKind::nuclear) {
    rule.scale += momentum.kind == MomentumKind::polar_first ? " <U,G>" : " <U,M>";
    if (config_.scale.alpha != 1.0) rule.scale += fmt::format("^{}", config_.scale.alpha);
  }
  return rule;
}

}  // namespace polar
