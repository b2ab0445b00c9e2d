// SOAP groups (Vyas et al. 2024, arXiv 2409.11321, algorithm 3): Adam in the eigenbasis of Shampoo's L and R
// (optim/preconditioned.h). With Q_L and Q_R orthonormal, their rows the basis vectors, and t the applied
// steps without the first,
//   G' = Q_L G Q_R^T;  m <- b1 m + (1 - b1) G';  v <- b2 v + (1 - b2) G'^2;
//   N' = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps);  W <- (1 - lr wd) W - lr Q_L^T N' Q_R,
// then L and R are brought up to date. The first applied step changes no weight: it begins L and R and takes
// their eigenvectors. Every precondition_frequency steps the bases follow by one power iteration and QR
// (Ops::eigenbasis), as in the paper: for sides of thousands this costs far less than eigenvectors. m is that
// of the paper (which keeps it in the parameter's space) seen in the basis: it turns with it. v stays: it
// belongs to the vectors, whose places the iteration keeps.
#pragma once

#include "optim/preconditioned.h"

namespace polar {

class SoapGroup final : public PreconditionedGroup {
 public:
  // State "soap.X:NAME": l, r; q_l, q_r; m, v.
  SoapGroup(GroupConfig config, std::vector<Member> members, DType dtype);
  void plan(MemoryPlan& memory, const Ops& ops, MatrixScratch& scratch) override;
  void bind(Ops& ops, const Arena& arena) override;
  void step(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch& scratch) override;

 private:
  size_t solver_bytes(const Ops& ops, int64_t size) const override;
  void adam(const Work& work, const Tensor& g) const;
  void follow(const Work& work) const;

  BufferId control_id_, minus_one_id_;
  Tensor control_;    // the step's, with a gradient scale of 1 and the first step not counted
  Tensor minus_one_;  // f64 (1)
};

}  // namespace polar
