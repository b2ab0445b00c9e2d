#include "optim/shampoo.h"

#include <utility>

namespace polar {
namespace {

enum Buffers : size_t { kSquares = 0, kRoots = 2, kMomentum = 4 };  // of the left sides; + 1: of the right

}  // namespace

ShampooGroup::ShampooGroup(GroupConfig config, std::vector<Member> members, DType dtype)
    : PreconditionedGroup(std::move(config), std::move(members), dtype,
                          {.name = "shampoo",
                           .sums = true,
                           .buffers = {{"l", Extent::left},
                                       {"r", Extent::right},
                                       {"root_l", Extent::left},
                                       {"root_r", Extent::right},
                                       {"m", Extent::matrix}}}) {}

size_t ShampooGroup::solver_bytes(const Ops& ops, int64_t size) const {
  return ops.symmetric_power_workspace(1, size, dtype_);
}

void ShampooGroup::step(Ops& ops, const Tensor& lr, const StepTensors& tensors,
                        const MatrixScratch& scratch) {
  for (size_t i = 0; i < members_.size(); ++i) {
    const Work work = work_on(ops, lr, tensors, scratch, i);
    const Tensor g = scaled_gradient(work), momentum = state_of(kMomentum, i);
    ops.momentum_update({.gradient = g,
                         .buffer = momentum,
                         .out = {},
                         .beta = config_.betas[0],
                         .gain = 1.0 - config_.betas[0],
                         .control = work.plain});
    add_squares(work, g);
    if (tensors.phase != GroupPhase::plain) make_roots(work);
    Tensor direction = momentum;
    for (const Side side : {left, right}) {
      const Tensor root = side_of(kRoots, side, i);
      if (!root) continue;
      const Tensor product = as_matrix(side == left ? work.b : work.c, work);
      if (side == left)
        ops.gemm(Transpose::no, Transpose::no, 1.0, root, direction, 0.0, product);
      else
        ops.gemm(Transpose::no, Transpose::no, 1.0, direction, root, 0.0, product);
      direction = product;
    }
    update(work, direction);
  }
}

void ShampooGroup::make_roots(const Work& work) const {
  const bool both = preconditions(work.shape, left) && preconditions(work.shape, right);
  for (const Side side : {left, right}) {
    const Tensor squares = side_of(kSquares, side, work.index);
    if (!squares) continue;
    const Tensor root = as_square(work.b, work, side);
    const Shape one{1, squares.shape[0], squares.shape[1]};
    try {
      work.ops.symmetric_power(squares.slice(0, one), both ? -0.25 : -0.5, root.slice(0, one), solver_,
                               config_.eps);
    } catch (const Error& error) {
      fail_for(work.ops, work.tensors, {work.index}, error);
    }
    store(work, root, side_of(kRoots, side, work.index));
  }
}

}  // namespace polar
