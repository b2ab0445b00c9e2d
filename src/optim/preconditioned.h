// What Shampoo and SOAP groups have in common. Of every matrix W (m x n), with G its clipped gradient, they
// keep averages of the squares of G,
//   L <- b2 L + (1 - b2) G G^T  (m x m),   R <- b2 R + (1 - b2) G^T G  (n x n)     (with b2 = 1 sums: L + G
//   G^T)
// and once in `precondition_frequency` applied steps they make of them what a step multiplies with from left
// and right. A side longer than `max_dimension` is left as it is. One matrix is treated after the other.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "optim/group.h"

namespace polar {

class PreconditionedGroup : public Group {
 public:
  void plan(MemoryPlan& memory, const Ops& ops, MatrixScratch& scratch) override;
  void bind(Ops& ops, const Arena& arena) override;
  std::vector<StateTensor> state() const override;
  // Applied steps 0: first; a multiple of the frequency: refresh.
  GroupPhase phase(int64_t applied_steps) const override;
  Rule rule(const Member& member) const override;

 protected:
  enum Side : int { left, right };
  // The buffers of a group's state: squares as large as a left or right side, and matrices.
  enum class Extent { left, right, matrix };
  struct Buffer {
    const char* name;  // "l": "soap.l:NAME"
    Extent extent;
    BufferId id = {};
    Tensor all = {};
  };

  // What makes the kinds different. The first two buffers are L and R.
  struct Kind {
    const char* name;  // "soap"
    bool sums;         // may b2 be 1?
    std::vector<Buffer> buffers;
  };
  // Errors (exit code 2): a matrix with no side up to max_dimension; betas outside [0, 1), but for b2 = 1
  // where the kind allows it; eps of 0 or less; a frequency below 1.
  PreconditionedGroup(GroupConfig config, std::vector<Member> members, DType dtype, Kind kind);

  // Bytes that the factorization of a square takes.
  virtual size_t solver_bytes(const Ops& ops, int64_t size) const = 0;

  // One matrix in one step. In `a`, `b` and `c` there is room for the matrix or a square of either side each.
  struct Work {
    Ops& ops;
    const StepTensors& tensors;
    const Tensor& lr;
    const Tensor& plain;  // the step's control with a gradient scale of 1
    size_t index;         // of the member
    Shape shape;
    Tensor a, b, c;
  };
  Work work_on(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch& scratch,
               size_t index) const;

  // The state of a member.
  Tensor state_of(size_t buffer, size_t member) const;
  // The same of a pair of buffers, `first` and behind it that of the right sides; empty where the side is not
  // preconditioned.
  Tensor side_of(size_t first, Side side, size_t member) const {
    return state_of(first + static_cast<size_t>(side), member);
  }
  bool preconditions(const Shape& shape, Side side) const { return shape[side] <= config_.max_dimension; }
  static Tensor as_matrix(const Tensor& room, const Work& work) { return room.slice(0, work.shape); }
  static Tensor as_square(const Tensor& room, const Work& work, Side side) {
    return room.slice(0, {work.shape[side], work.shape[side]});
  }
  // The gradient times the control's scale, in work.a. A skipped step leaves there what was there.
  Tensor scaled_gradient(const Work& work) const;
  // Brings L and R up to date with the gradient g. Overwrites b.
  void add_squares(const Work& work, const Tensor& g) const;
  // to = from, unless the step is skipped.
  static void store(const Work& work, const Tensor& from, const Tensor& to);
  // W <- (1 - lr wd) W - lr * direction; cautious: without decay where that leads away from zero
  void update(const Work& work, const Tensor& direction) const;

  DType dtype_;
  Tensor solver_;

 private:
  struct Place {
    std::array<int64_t, 3> offset{};  // by Extent, in the buffers of that extent
  };
  Shape shape_of(Extent extent, const Member& member) const;

  Kind kind_;
  std::vector<Place> places_;
  std::array<int64_t, 3> counts_{};  // elements of the buffers of each extent
  int64_t room_ = 0;                 // elements of each of a, b and c
  std::array<BufferId, 3> room_ids_;
  std::array<Tensor, 3> rooms_;
  BufferId solver_id_;
};

}  // namespace polar
