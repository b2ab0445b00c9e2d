// Matrix groups: a rule for 2-D weights W (m x n, m = fan-out) put together from momentum, oracle, scale and
// decay. With G the clipped gradient, b = beta, gamma = lr, lambda = weight decay, U = oracle(.) ~ polar(.):
//   first        M <- b M + (1-b) G;  U = oracle(M);  direction U, nuclear <U, M>
//   heavy_ball   M <- b M + G;        U = oracle(M);  direction U, nuclear <U, M>
//   none         M = G;               U = oracle(M);  direction U, nuclear <U, M>
//   polar_first  U = oracle(G);  M <- b M + (1-b) U;  direction M, nuclear <U, G>
//   lion         C = c M + (1-c) G;  M <- b M + (1-b) G;  U = oracle(C);  direction U, nuclear <U, C>
// (c = interpolation, arXiv 2302.06675). Nesterov replaces M, where it is used after its update, by b M +
// (1-b) G (heavy_ball: b M + G; polar_first: b M + (1-b) U). W <- (1 - gamma lambda) W - gamma * multiplier *
// nuclear^alpha * direction, where alpha = 0 unless the scale is `nuclear`, and the multiplier is
// scale.factor times
//   jordan sqrt(max(1, m/n));  rms_match 0.2 sqrt(max(m, n));  spectral sqrt(m/n);  nuclear, none 1.
// With neuron_beta the rows (columns of wide matrices) of U are brought to one size, as NorMuon does, once
// the nuclear norm is known. With per_head every head of q and k is a matrix of its own, m its rows. With
// cautious_decay the decay is left out where direction and W differ in sign.
#pragma once

#include <string>
#include <vector>

#include "optim/group.h"
#include "optim/matrix_batches.h"
#include "optim/oracle.h"

namespace polar {

class MatrixGroup final : public Group {
 public:
  // Errors (exit code 2): what Oracle refuses; Nesterov without a momentum that has it; beta outside
  // [0, 1); neuron_beta with polar_first or without an orthogonal factor.
  MatrixGroup(GroupConfig config, std::vector<Member> members, DType dtype);
  void plan(MemoryPlan& memory, const Ops& ops, MatrixScratch& scratch) override;
  void bind(Ops& ops, const Arena& arena) override;
  void step(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch& scratch) override;
  std::vector<StateTensor> state() const override;
  Rule rule(const Member& member) const override;

  std::optional<Diagnosis> diagnose(Ops& ops, const std::string& parameter, double lr, double beta,
                                    const StepTensors& tensors, const MatrixScratch& scratch,
                                    const Spectrum& spectrum) const override;

  // The constant part of the scale for a matrix of this shape, `factor` included.
  static double multiplier(const ScaleConfig& scale, const Shape& shape);

 private:
  // Everything one step of one batch works on.
  struct Work {
    Ops& ops;
    const MatrixScratch& scratch;
    const MatrixBatch& batch;
    const Tensor& lr;
    const StepTensors& tensors;
    Tensor momentum, x, y;  // (batch, m, n); x is the oracle's input
    Tensor seen;            // what the oracle saw, unnormalised, still there after it: M or G of the formulas
  };

  void see_again(const Work& work, double beta, const Tensor& x) const;
  bool gradient_momentum() const;  // is there a momentum of gradients, before the oracle?
  bool separate_input() const;     // does the nuclear scale need a copy of what the oracle overwrites?
  bool momentum_is_input() const;  // does the oracle see the buffer itself?
  Tensor places(const MatrixBatch& batch, int64_t buffer) const;
  MomentumUpdate gradient_args(const Work& work, const Tensor& target) const;
  MomentumUpdate momentum_args(const Work& work, const Tensor& target) const;
  void prepare(Work& work) const;
  void step_batch(Work& work) const;
  Tensor factor(const Work& work) const;
  Tensor average_factors(const Work& work, const Tensor& u) const;
  void update(const Work& work, const Tensor& direction) const;

  DType dtype_;                     // of the state
  DType polar_dtype_ = DType::f32;  // of the oracle's matrices
  Oracle oracle_;
  std::vector<MatrixPart> parts_;
  std::vector<MatrixBatch> batches_;
  BufferId momentum_id_, neurons_id_, places_id_;
  Tensor momentum_;  // flat; empty for `none`
  Tensor neurons_;   // flat; empty without neuron_beta
  // f64 (3, parts): where the parts begin in the buffers of gradients, parameters and weights.
  Tensor places_;
};

}  // namespace polar
