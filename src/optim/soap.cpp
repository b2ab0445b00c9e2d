#include "optim/soap.h"

#include <utility>

namespace polar {
namespace {

// Of the left sides; + 1: of the right.
enum Buffers : size_t { kSquares = 0, kBases = 2, kFirst = 4, kSecond = 5 };

}  // namespace

SoapGroup::SoapGroup(GroupConfig config, std::vector<Member> members, DType dtype)
    : PreconditionedGroup(std::move(config), std::move(members), dtype,
                          {.name = "soap",
                           .sums = false,
                           .buffers = {{"l", Extent::left},
                                       {"r", Extent::right},
                                       {"q_l", Extent::left},
                                       {"q_r", Extent::right},
                                       {"m", Extent::matrix},
                                       {"v", Extent::matrix}}}) {}

size_t SoapGroup::solver_bytes(const Ops& ops, int64_t size) const {
  return ops.eigenbasis_workspace(size, dtype_);
}

void SoapGroup::plan(MemoryPlan& memory, const Ops& ops, MatrixScratch& scratch) {
  PreconditionedGroup::plan(memory, ops, scratch);
  if (members_.empty()) return;
  control_id_ = memory.add("workspace", "soap.control", DType::f64, {kControlSize});
  minus_one_id_ = memory.add("workspace", "soap.minus_one", DType::f64, {1});
}

void SoapGroup::bind(Ops& ops, const Arena& arena) {
  PreconditionedGroup::bind(ops, arena);
  control_ = arena[control_id_];
  minus_one_ = arena[minus_one_id_];
  if (minus_one_) ops.fill(minus_one_, -1.0);
}

void SoapGroup::step(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch& scratch) {
  if (members_.empty()) return;
  ops.copy(scratch.unscaled_control, control_);
  ops.axpby(1.0, minus_one_, 1.0, control_.slice(kControlAppliedSteps, {1}));
  for (size_t i = 0; i < members_.size(); ++i) {
    const Work work = work_on(ops, lr, tensors, scratch, i);
    const Tensor g = scaled_gradient(work);
    if (tensors.phase != GroupPhase::first) adam(work, g);
    add_squares(work, g);
    if (tensors.phase != GroupPhase::plain) follow(work);
  }
}

// Ops::adamw with a learning rate of -1 makes N' of a parameter of zeros.
void SoapGroup::adam(const Work& work, const Tensor& g) const {
  Ops& ops = work.ops;
  const Tensor q_l = side_of(kBases, left, work.index), q_r = side_of(kBases, right, work.index);
  Tensor x = g;  // which is still needed: what becomes of it goes to and fro between b and c
  const auto other = [&] { return as_matrix(x.data == work.b.data ? work.c : work.b, work); };
  const auto multiply = [&](Transpose turn, const Tensor& q, Side side) {
    if (!q) return;
    const Tensor product = other();
    if (side == left)
      ops.gemm(turn, Transpose::no, 1.0, q, x, 0.0, product);
    else
      ops.gemm(Transpose::no, turn == Transpose::no ? Transpose::yes : Transpose::no, 1.0, x, q, 0.0,
               product);
    x = product;
  };
  multiply(Transpose::no, q_l, left);
  multiply(Transpose::no, q_r, right);
  const Tensor normalized = other();
  ops.fill(normalized, 0.0);
  ops.adamw({.parameter = normalized,
             .gradient = x,
             .m = state_of(kFirst, work.index),
             .v = state_of(kSecond, work.index),
             .lr = minus_one_,
             .beta1 = config_.betas[0],
             .beta2 = config_.betas[1],
             .eps = config_.eps,
             .weight_decay = 0.0,
             .control = control_});
  x = normalized;
  multiply(Transpose::yes, q_l, left);
  multiply(Transpose::yes, q_r, right);
  update(work, x);
}

// The bases of L and R as they now are, and m in them.
void SoapGroup::follow(const Work& work) const {
  Ops& ops = work.ops;
  const bool first = work.tensors.phase == GroupPhase::first;
  const Tensor m = state_of(kFirst, work.index), turned = as_matrix(work.a, work);
  for (const Side side : {left, right}) {
    const Tensor squares = side_of(kSquares, side, work.index), basis = side_of(kBases, side, work.index);
    if (!basis) continue;
    const Tensor next = as_square(work.b, work, side), turn = as_square(work.c, work, side);
    try {
      ops.eigenbasis({.a = squares, .basis = first ? Tensor{} : basis, .out = next, .workspace = solver_});
    } catch (const Error& error) {
      fail_for(ops, work.tensors, {work.index}, error);
    }
    if (!first) {
      ops.gemm(Transpose::no, Transpose::yes, 1.0, next, basis, 0.0, turn);
      if (side == left)
        ops.gemm(Transpose::no, Transpose::no, 1.0, turn, m, 0.0, turned);
      else
        ops.gemm(Transpose::no, Transpose::yes, 1.0, m, turn, 0.0, turned);
      store(work, turned, m);
    }
    store(work, next, basis);
  }
}

}  // namespace polar
