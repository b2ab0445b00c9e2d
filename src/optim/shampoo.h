// Shampoo groups (Gupta, Koren, Singer 2018, arXiv 1802.09568), with momentum: with L and R of
// optim/preconditioned.h and M <- b1 M + (1 - b1) G,
//   W <- (1 - lr wd) W - lr (L + eps I)^{-1/4} M (R + eps I)^{-1/4},
// where the inverse roots are made anew once in precondition_frequency applied steps, of L and R as they then
// are. Between, gradients come in directions that L and R have not seen, where the roots are eps^{-1/4} each:
// an eps far below 1e-6 lets such steps grow too large unless the frequency is 1. Where one side only is
// preconditioned its root is -1/2. There is no bias correction and no grafting.
#pragma once

#include "optim/preconditioned.h"

namespace polar {

class ShampooGroup final : public PreconditionedGroup {
 public:
  // State "shampoo.X:NAME": l, r; root_l, root_r, the inverse roots; m.
  ShampooGroup(GroupConfig config, std::vector<Member> members, DType dtype);
  void step(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch& scratch) override;

 private:
  size_t solver_bytes(const Ops& ops, int64_t size) const override;
  void make_roots(const Work& work) const;
};

}  // namespace polar
