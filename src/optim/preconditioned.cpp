#include "optim/preconditioned.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace polar {
namespace {

int64_t aligned(int64_t elements) {
  constexpr int64_t kAlignment = ParameterRegistry::kAlignment;
  return (elements + kAlignment - 1) / kAlignment * kAlignment;
}

void check(const GroupConfig& config, const std::vector<Member>& members, bool sums) {
  const auto [beta1, beta2] = config.betas;
  if (!(beta1 >= 0.0 && beta1 < 1.0 && beta2 >= 0.0 && (beta2 < 1.0 || (sums && beta2 == 1.0))))
    fail_usage("optimizer group {}: betas: found [{}, {}], expected 0 <= beta < 1{}", config.name, beta1,
               beta2, sums ? ", or 1 for the second" : "");
  if (!(config.eps > 0.0))
    fail_usage("optimizer group {}: eps: found {}, expected a number above 0", config.name, config.eps);
  if (config.precondition_frequency < 1)
    fail_usage("optimizer group {}: precondition_frequency: found {}, expected 1 or more", config.name,
               config.precondition_frequency);
  for (const Member& member : members)
    if (std::min(member.shape[0], member.shape[1]) > config.max_dimension)
      fail_usage(
          "optimizer group {}: both sides of {} {} are longer than max_dimension = {}, so that nothing would "
          "be preconditioned; raise max_dimension, or put a group of another type that matches it before "
          "this one",
          config.name, member.name, member.shape.text(), config.max_dimension);
}

}  // namespace

PreconditionedGroup::PreconditionedGroup(GroupConfig config, std::vector<Member> members, DType dtype,
                                         Kind kind)
    : Group(std::move(config), std::move(members)), dtype_(dtype), kind_(std::move(kind)) {
  check(config_, members_, kind_.sums);
  for (const Member& member : members_) {
    Place& place = places_.emplace_back();
    for (const Extent extent : {Extent::left, Extent::right, Extent::matrix}) {
      const auto i = static_cast<size_t>(extent);
      const int64_t count = shape_of(extent, member).count();
      place.offset[i] = counts_[i];
      counts_[i] += aligned(count);
      room_ = std::max(room_, aligned(count));
    }
  }
}

Shape PreconditionedGroup::shape_of(Extent extent, const Member& member) const {
  if (extent == Extent::matrix) return member.shape;
  const Side side = extent == Extent::left ? left : right;
  const int64_t size = preconditions(member.shape, side) ? member.shape[side] : 0;
  return {size, size};
}

void PreconditionedGroup::plan(MemoryPlan& memory, const Ops& ops, MatrixScratch& scratch) {
  const auto add = [&](const std::string& category, const char* name, DType type, int64_t count) {
    return count > 0 ? memory.add(category, std::string(kind_.name) + "." + name, type, {count}) : BufferId{};
  };
  for (Buffer& buffer : kind_.buffers)
    buffer.id = add("optimizer", buffer.name, dtype_, counts_[static_cast<size_t>(buffer.extent)]);
  size_t solver = 0;
  for (const Member& member : members_)
    for (const Side side : {left, right})
      if (preconditions(member.shape, side)) solver = std::max(solver, solver_bytes(ops, member.shape[side]));
  for (size_t i = 0; i < room_ids_.size(); ++i)
    room_ids_[i] = add("workspace", std::array{"a", "b", "c"}[i], dtype_, room_);
  solver_id_ = add("workspace", "solver", DType::f64, static_cast<int64_t>((solver + 7) / 8));
  if (!members_.empty()) scratch.require({.unscaled_control = true});
}

void PreconditionedGroup::bind(Ops& ops, const Arena& arena) {
  for (Buffer& buffer : kind_.buffers) {
    buffer.all = arena[buffer.id];
    if (buffer.all) ops.fill(buffer.all, 0.0);
  }
  for (size_t i = 0; i < rooms_.size(); ++i) {
    rooms_[i] = arena[room_ids_[i]];
    if (rooms_[i]) ops.fill(rooms_[i], 0.0);  // a skipped first step computes with it: it must hold numbers
  }
  solver_ = arena[solver_id_];
}

Tensor PreconditionedGroup::state_of(size_t buffer, size_t member) const {
  const Buffer& from = kind_.buffers[buffer];
  const Shape shape = shape_of(from.extent, members_[member]);
  if (shape.count() == 0) return {};
  return from.all.slice(places_[member].offset[static_cast<size_t>(from.extent)], shape);
}

std::vector<StateTensor> PreconditionedGroup::state() const {
  std::vector<StateTensor> list;
  for (size_t member = 0; member < members_.size(); ++member)
    for (size_t buffer = 0; buffer < kind_.buffers.size(); ++buffer)
      if (shape_of(kind_.buffers[buffer].extent, members_[member]).count() > 0)
        list.push_back(
            {.name = fmt::format("{}.{}:{}", kind_.name, kind_.buffers[buffer].name, members_[member].name),
             .tensor = state_of(buffer, member)});
  return list;
}

GroupPhase PreconditionedGroup::phase(int64_t applied_steps) const {
  if (applied_steps == 0) return GroupPhase::first;
  return applied_steps % config_.precondition_frequency == 0 ? GroupPhase::refresh : GroupPhase::plain;
}

Rule PreconditionedGroup::rule(const Member& member) const {
  Rule rule{fmt::format("betas {} {}, eps {}, every {}", config_.betas[0], config_.betas[1], config_.eps,
                        config_.precondition_frequency),
            "none"};
  if (!preconditions(member.shape, left)) rule.method += ", right side only";
  if (!preconditions(member.shape, right)) rule.method += ", left side only";
  if (config_.cautious_decay) rule.method += ", cautious decay";
  return rule;
}

PreconditionedGroup::Work PreconditionedGroup::work_on(Ops& ops, const Tensor& lr, const StepTensors& tensors,
                                                       const MatrixScratch& scratch, size_t index) const {
  return {.ops = ops,
          .tensors = tensors,
          .lr = lr,
          .plain = scratch.unscaled_control,
          .index = index,
          .shape = members_[index].shape,
          .a = rooms_[0],
          .b = rooms_[1],
          .c = rooms_[2]};
}

Tensor PreconditionedGroup::scaled_gradient(const Work& work) const {
  const Tensor g = as_matrix(work.a, work);
  work.ops.momentum_update(
      {.gradient = work.tensors.gradients.slice(members_[work.index].gradient, work.shape),
       .buffer = g,
       .out = {},
       .beta = 0.0,
       .gain = 1.0,
       .control = work.tensors.control});
  return g;
}

// The square of the shorter side (the left one of equals) takes half the work of a product.
void PreconditionedGroup::add_squares(const Work& work, const Tensor& g) const {
  const int64_t m = work.shape[0], n = work.shape[1];
  for (const Side side : {left, right}) {
    if (!preconditions(work.shape, side)) continue;
    const Tensor square = as_square(work.b, work, side);
    if ((m <= n) == (side == left))
      work.ops.polar_gram(g.slice(0, {1, m, n}), square.slice(0, {1, square.shape[0], square.shape[1]}));
    else
      work.ops.gemm(side == left ? Transpose::no : Transpose::yes,
                    side == left ? Transpose::yes : Transpose::no, 1.0, g, g, 0.0, square);
    const double beta2 = config_.betas[1];
    work.ops.momentum_update({.gradient = square,
                              .buffer = side_of(0, side, work.index),
                              .out = {},
                              .beta = beta2,
                              .gain = beta2 == 1.0 ? 1.0 : 1.0 - beta2,
                              .control = work.plain});
  }
}

void PreconditionedGroup::store(const Work& work, const Tensor& from, const Tensor& to) {
  work.ops.momentum_update(
      {.gradient = from, .buffer = to, .out = {}, .beta = 0.0, .gain = 1.0, .control = work.plain});
}

void PreconditionedGroup::update(const Work& work, const Tensor& direction) const {
  const Member& member = members_[work.index];
  work.ops.matrix_update({.parameter = work.tensors.parameters.slice(member.offset, member.shape),
                          .direction = direction,
                          .scale = {},
                          .lr = work.lr,
                          .weight_decay = config_.weight_decay,
                          .control = work.tensors.control,
                          .weight = work.tensors.weight(member.weight, member.shape),
                          .cautious = config_.cautious_decay});
}

}  // namespace polar
