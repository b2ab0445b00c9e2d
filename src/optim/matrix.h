// Matrix groups: a rule for 2-D weights W (m x n, m = fan-out) put together from momentum, oracle, scale and
// decay. With G the clipped gradient, b = beta, gamma = lr, lambda = weight decay, U = oracle(.) ~ polar(.):
//   first        M <- b M + (1-b) G;  U = oracle(M);  direction U, nuclear <U, M>
//   heavy_ball   M <- b M + G;        U = oracle(M);  direction U, nuclear <U, M>
//   none         M = G;               U = oracle(M);  direction U, nuclear <U, M>
//   polar_first  U = oracle(G);  M <- b M + (1-b) U;  direction M, nuclear <U, G>
// Nesterov replaces M, where it is used after its update, by b M + (1-b) G (heavy_ball: b M + G; polar_first:
// b M + (1-b) U). W <- (1 - gamma lambda) W - gamma * multiplier * nuclear^alpha * direction, where alpha = 0
// unless the scale is `nuclear`, and the multiplier is scale.factor times
//   jordan sqrt(max(1, m/n));  rms_match 0.2 sqrt(max(m, n));  spectral sqrt(m/n);  nuclear, none 1.
#pragma once

#include <string>
#include <vector>

#include "optim/group.h"
#include "optim/oracle.h"

namespace polar {

class MatrixGroup final : public Group {
 public:
  // Errors (exit code 2): what Oracle refuses; Nesterov without momentum; beta outside [0, 1).
  MatrixGroup(GroupConfig config, std::vector<Member> members, DType dtype);
  void plan(MemoryPlan& memory, const Ops& ops, MatrixScratch& scratch) override;
  void bind(Ops& ops, const Arena& arena) override;
  void step(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch& scratch) override;
  std::vector<StateTensor> state() const override;
  Rule rule(const Member& member) const override;

  // The constant part of the scale for a matrix of this shape, `factor` included.
  static double multiplier(const ScaleConfig& scale, const Shape& shape);

 private:
  // Members [begin, end): matrices of one shape that the oracle takes together. Their momenta lie one after
  // the other, from `state_offset` on.
  struct Batch {
    size_t begin = 0, end = 0;
    int64_t state_offset = 0;
    Shape shape;  // (end - begin, m, n)
  };
  // Everything one step of one batch works on.
  struct Work;

  bool gradient_momentum() const;  // is there a momentum of gradients, before the oracle?
  bool separate_input() const;     // does the nuclear scale need a copy of what the oracle overwrites?
  void sort_by_shape();
  void make_batches(int64_t max_bytes);
  void prepare(Work& work) const;
  Tensor average_factors(const Work& work, const Tensor& u) const;
  void update(const Work& work, const Tensor& direction) const;

  DType dtype_;                     // of the state
  DType polar_dtype_ = DType::f32;  // of the oracle's matrices
  Oracle oracle_;
  std::vector<Batch> batches_;
  BufferId momentum_id_;
  Tensor momentum_;  // flat; empty for `none`
};

}  // namespace polar
