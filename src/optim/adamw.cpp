#include "optim/adamw.h"

#include <fmt/format.h>

#include <utility>

namespace polar {
namespace {

int64_t aligned(int64_t elements) {
  constexpr int64_t kAlignment = ParameterRegistry::kAlignment;
  return (elements + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

AdamWGroup::AdamWGroup(GroupConfig config, std::vector<Member> members, DType dtype)
    : Group(std::move(config), std::move(members)), dtype_(dtype) {
  for (const Member& member : members_) {
    Run* before = runs_.empty() ? nullptr : &runs_.back();
    if (before != nullptr && member.offset >= before->offset &&
        member.offset <= aligned(before->offset + before->count) &&
        member.gradient - before->gradient == member.offset - before->offset &&
        member.weight - before->weight == member.offset - before->offset)
      before->count = member.offset + member.count - before->offset;
    else
      runs_.push_back({member.offset, member.gradient, member.weight, member.count, state_count()});
  }
}

int64_t AdamWGroup::state_count() const {
  return runs_.empty() ? 0 : runs_.back().state_offset + aligned(runs_.back().count);
}

int64_t AdamWGroup::state_offset(const Member& member) const {
  const Run* owner = &runs_.front();
  for (const Run& run : runs_)
    if (run.offset <= member.offset && member.offset < run.offset + run.count) owner = &run;
  return owner->state_offset + member.offset - owner->offset;
}

void AdamWGroup::plan(MemoryPlan& memory, const Ops&, MatrixScratch&) {
  m_id_ = memory.add("optimizer", "adamw.m", dtype_, {state_count()});
  v_id_ = memory.add("optimizer", "adamw.v", dtype_, {state_count()});
}

void AdamWGroup::bind(Ops& ops, const Arena& arena) {
  m_ = arena[m_id_];
  v_ = arena[v_id_];
  ops.fill(m_, 0.0);
  ops.fill(v_, 0.0);
}

void AdamWGroup::step(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch&) {
  for (const Run& run : runs_) {
    const Shape shape{run.count};
    ops.adamw({.parameter = tensors.parameters.slice(run.offset, shape),
               .gradient = tensors.gradients.slice(run.gradient, shape),
               .m = m_.slice(run.state_offset, shape),
               .v = v_.slice(run.state_offset, shape),
               .lr = lr,
               .beta1 = config_.betas[0],
               .beta2 = config_.betas[1],
               .eps = config_.eps,
               .weight_decay = config_.weight_decay,
               .control = tensors.control,
               .weight = tensors.weight(run.weight, shape),
               .cautious = config_.cautious_decay});
  }
}

std::vector<StateTensor> AdamWGroup::state() const {
  std::vector<StateTensor> list;
  for (const Member& member : members_) {
    const Shape shape = member.whole() ? member.shape : Shape{member.count};
    for (const auto& [name, state] : {std::pair{"adamw.m:", &m_}, {"adamw.v:", &v_}})
      list.push_back({.name = name + member.name,
                      .tensor = state->slice(state_offset(member), shape),
                      .begin = member.begin,
                      .whole = member.whole()});
  }
  return list;
}

Rule AdamWGroup::rule(const Member&) const {
  return {fmt::format("betas {} {}, eps {}", config_.betas[0], config_.betas[1], config_.eps), "none"};
}

}  // namespace polar
