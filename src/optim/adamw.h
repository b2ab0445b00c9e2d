// AdamW groups: m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2,
// p <- p - lr wd p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), as torch.optim.AdamW.
#pragma once

#include <string>
#include <vector>

#include "optim/group.h"

namespace polar {

class AdamWGroup final : public Group {
 public:
  // Members in the order of their offsets.
  AdamWGroup(GroupConfig config, std::vector<Member> members, DType dtype);
  void plan(MemoryPlan& memory, const Ops& ops, MatrixScratch& scratch) override;
  void bind(Ops& ops, const Arena& arena) override;
  void step(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch& scratch) override;
  std::vector<StateTensor> state() const override;
  Rule rule(const Member& member) const override;

 private:
  // Neighbours in all flat buffers, the padding between them included, are updated by one call.
  struct Run {
    int64_t offset = 0;        // in the parameter buffer
    int64_t gradient = 0;      // in the gradient buffer
    int64_t weight = 0;        // in the weight buffer
    int64_t count = 0;         // elements
    int64_t state_offset = 0;  // in m and v
  };
  int64_t state_count() const;
  int64_t state_offset(const Member& member) const;

  DType dtype_;
  std::vector<Run> runs_;
  BufferId m_id_, v_id_;
  Tensor m_, v_;
};

}  // namespace polar
