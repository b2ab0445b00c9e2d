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

void check_momentum(const GroupConfig& config) {
  const MomentumConfig& momentum = config.momentum;
  if (momentum.kind == MomentumKind::none) {
    if (momentum.nesterov)
      fail_usage(
          "optimizer group {}: momentum none with nesterov: true; expected a momentum, or nesterov: false",
          config.name);
  } else if (!(momentum.beta >= 0.0 && momentum.beta < 1.0)) {
    fail_usage("optimizer group {}: momentum.beta: found {}, expected 0 <= beta < 1", config.name,
               momentum.beta);
  }
}

// Matrix i of a batch.
Tensor matrix_of(const Tensor& batch, size_t i) {
  const Shape shape{batch.shape[1], batch.shape[2]};
  return batch.slice(static_cast<int64_t>(i) * shape.count(), shape);
}

}  // namespace

struct MatrixGroup::Work {
  Ops& ops;
  const MatrixScratch& scratch;
  const Batch& batch;
  const Tensor& lr;
  const StepTensors& tensors;
  Tensor momentum, x, y;  // (batch, m, n); x is the oracle's input
  Tensor seen;            // what the oracle saw, unnormalised, still there after it: M or G of the formulas
};

MatrixGroup::MatrixGroup(GroupConfig config, std::vector<Member> members, DType dtype)
    : Group(std::move(config), std::move(members)), dtype_(dtype), oracle_(config_.oracle) {
  check_momentum(config_);
  sort_by_shape();
}

// Equal shapes become neighbours, in the order of their first appearance.
void MatrixGroup::sort_by_shape() {
  std::vector<Shape> shapes;
  const auto rank_of = [&](const Member& member) {
    return std::find(shapes.begin(), shapes.end(), member.shape) - shapes.begin();
  };
  for (const Member& member : members_)
    if (rank_of(member) == std::ssize(shapes)) shapes.push_back(member.shape);
  std::stable_sort(members_.begin(), members_.end(),
                   [&](const Member& a, const Member& b) { return rank_of(a) < rank_of(b); });
}

void MatrixGroup::make_batches(int64_t max_bytes) {
  int64_t state_offset = 0;
  for (size_t begin = 0; begin < members_.size();) {
    const Shape& shape = members_[begin].shape;
    const int64_t bytes = shape.count() * static_cast<int64_t>(size_of(dtype_));
    const auto limit = static_cast<size_t>(std::max<int64_t>(1, max_bytes / bytes));
    size_t end = begin;
    while (end < members_.size() && end - begin < limit && members_[end].shape == shape) ++end;
    const auto count = static_cast<int64_t>(end - begin);
    batches_.push_back({begin, end, state_offset, {count, shape[0], shape[1]}});
    state_offset += batches_.back().shape.count();
    begin = end;
  }
}

bool MatrixGroup::gradient_momentum() const {
  return config_.momentum.kind == MomentumKind::first || config_.momentum.kind == MomentumKind::heavy_ball;
}

bool MatrixGroup::separate_input() const {
  // <U, M> takes both in one format.
  const bool momentum_is_input = polar_dtype_ == dtype_ && gradient_momentum() && !config_.momentum.nesterov;
  return config_.scale.kind == ScaleKind::nuclear && !oracle_.keeps_input() && !momentum_is_input;
}

void MatrixGroup::plan(MemoryPlan& memory, const Ops& ops, MatrixScratch& scratch) {
  polar_dtype_ = scratch.dtype();
  make_batches(batch_bytes(ops));
  for (const Batch& batch : batches_) {
    MatrixScratch::Need need =
        oracle_.need(ops, batch.shape[0], batch.shape[1], batch.shape[2], polar_dtype_);
    if (separate_input()) need.input = batch.shape.count();
    need.unscaled_control = config_.momentum.kind == MomentumKind::polar_first;
    scratch.require(need);
  }
  if (config_.momentum.kind == MomentumKind::none) return;
  int64_t count = 0;
  for (const Batch& batch : batches_) count += batch.shape.count();
  momentum_id_ = memory.add("optimizer", "matrix.momentum", dtype_, {count});
}

void MatrixGroup::bind(Ops& ops, const Arena& arena) {
  momentum_ = arena[momentum_id_];
  if (momentum_) ops.fill(momentum_, 0.0);
}

void MatrixGroup::step(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch& scratch) {
  for (const Batch& batch : batches_) {
    Work work{.ops = ops,
              .scratch = scratch,
              .batch = batch,
              .lr = lr,
              .tensors = tensors,
              .momentum = momentum_ ? momentum_.slice(batch.state_offset, batch.shape) : Tensor{},
              .x = scratch.x.slice(0, batch.shape),
              .y = scratch.y.slice(0, batch.shape),
              .seen = {}};
    prepare(work);
    const Tensor u = oracle_.factor(ops, work.x, work.y, scratch);
    if (config_.scale.kind == ScaleKind::nuclear)
      ops.polar_inner(u, work.seen, scratch.nuclear.slice(0, {batch.shape[0]}));
    update(work, config_.momentum.kind == MomentumKind::polar_first ? average_factors(work, u) : u);
  }
}

// Brings the momentum up to date and the oracle's input into place.
void MatrixGroup::prepare(Work& work) const {
  const MomentumConfig& config = config_.momentum;
  const bool momentum_is_input = gradient_momentum() && !config.nesterov;
  if (momentum_is_input && oracle_.keeps_input()) work.x = work.momentum;
  const Tensor target = separate_input() ? work.scratch.input.slice(0, work.batch.shape) : work.x;
  work.seen = momentum_is_input && !separate_input() ? work.momentum : target;

  for (size_t i = 0; i < work.batch.end - work.batch.begin; ++i) {
    const Member& member = members_[work.batch.begin + i];
    MomentumUpdate args{.gradient = work.tensors.gradients.slice(member.gradient, member.shape),
                        .buffer = matrix_of(target, i),
                        .out = {},
                        .beta = 0.0,
                        .gain = 1.0,
                        .nesterov = false,
                        .control = work.tensors.control};
    if (gradient_momentum()) {
      args.buffer = matrix_of(work.momentum, i);
      if (target.data != work.momentum.data) args.out = matrix_of(target, i);
      args.beta = config.beta;
      args.gain = config.kind == MomentumKind::heavy_ball ? 1.0 : 1.0 - config.beta;
      args.nesterov = config.nesterov;
    }
    work.ops.momentum_update(args);
  }
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
                            .control = work.scratch.unscaled_control});
  return config.nesterov ? free : work.momentum;
}

void MatrixGroup::update(const Work& work, const Tensor& direction) const {
  const bool nuclear = config_.scale.kind == ScaleKind::nuclear;
  for (size_t i = 0; i < work.batch.end - work.batch.begin; ++i) {
    const Member& member = members_[work.batch.begin + i];
    work.ops.matrix_update(
        {.parameter = work.tensors.parameters.slice(member.offset, member.shape),
         .direction = matrix_of(direction, i),
         .scale = nuclear ? work.scratch.nuclear.slice(static_cast<int64_t>(i), {1}) : Tensor{},
         .exponent = config_.scale.alpha,
         .lr = work.lr,
         .multiplier = multiplier(config_.scale, member.shape),
         .weight_decay = config_.weight_decay,
         .control = work.tensors.control,
         .weight = work.tensors.weight(member.weight, member.shape)});
  }
}

std::vector<StateTensor> MatrixGroup::state() const {
  std::vector<StateTensor> list;
  if (config_.momentum.kind == MomentumKind::none) return list;
  for (const Batch& batch : batches_)
    for (size_t i = 0; i < batch.end - batch.begin; ++i)
      list.push_back({"matrix.momentum:" + members_[batch.begin + i].name,
                      matrix_of(momentum_.slice(batch.state_offset, batch.shape), i), 0, true});
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
  Rule rule;
  rule.method = name_of(config_.momentum.kind);
  if (config_.momentum.kind != MomentumKind::none) rule.method += fmt::format(" {}", config_.momentum.beta);
  if (config_.momentum.nesterov) rule.method += " nesterov";
  rule.method += ", " + oracle_.text();
  rule.scale =
      fmt::format("{} -> x{:.4g}", name_of(config_.scale.kind), multiplier(config_.scale, member.shape));
  if (config_.scale.kind == ScaleKind::nuclear) {
    rule.scale += config_.momentum.kind == MomentumKind::polar_first ? " <U,G>" : " <U,M>";
    if (config_.scale.alpha != 1.0) rule.scale += fmt::format("^{}", config_.scale.alpha);
  }
  return rule;
}

}  // namespace polar
