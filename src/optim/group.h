// What all kinds of optimizer groups have in common, and the scratch space that they share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "ops/ops.h"
#include "optim/config.h"
#include "optim/diagnosis.h"
#include "optim/spectrum.h"
#include "tensor/memory_plan.h"
#include "tensor/registry.h"

namespace polar {

struct StateTensor {
  std::string name;  // "adamw.m:model.norm.weight"
  Tensor tensor;     // a view; the memory belongs to the arena
  // What a rank has of a parameter that is cut over the ranks: elements from `begin` on, tensor flat. A whole
  // one has the parameter's shape.
  int64_t begin = 0;
  bool whole = true;
};

// Scratch space of the matrix groups, which run one after the other: as large as the largest need.
class MatrixScratch {
 public:
  // Elements, but for `solver`.
  struct Need {
    int64_t batch = 0;     // matrices at a time
    int64_t matrices = 0;  // the iterate and its successor, each batch * m * n
    int64_t input = 0;     // a copy of what the oracle saw, where the scale still needs it
    int64_t squares = 0;   // Gram matrix and polynomial, each batch * s * s
    int64_t products = 0;  // products of polynomials and their successor, each batch * s * s
    int64_t factors = 0;   // of a preconditioner, batch * s
    size_t solver = 0;     // bytes: of the exact and rational oracles
    bool unscaled_control = false;
  };

  // The format of all matrices in it; to be set before groups say what they need.
  void set_dtype(DType dtype) { dtype_ = dtype; }
  DType dtype() const { return dtype_; }
  void require(const Need& need);
  void plan(MemoryPlan& memory);
  void bind(Ops& ops, const Arena& arena);
  // Brings unscaled_control up to date with the step's control.
  void begin_step(Ops& ops, const Tensor& control) const;

  Tensor x, y;                   // flat, `matrices` elements each
  Tensor input;                  // flat
  Tensor gram, polynomial;       // flat, `squares` elements each
  Tensor product, product_next;  // flat, `products` elements each
  Tensor factors;                // f64
  Tensor solver;
  Tensor nuclear;           // f64 (batch): <U, M>
  Tensor unscaled_control;  // f64 (kControlSize): the step's control with a gradient scale of 1

 private:
  DType dtype_ = DType::f32;
  Need need_;
  BufferId x_, y_, input_, gram_, polynomial_, product_, product_next_, factors_, solver_, nuclear_,
      unscaled_;
};

// One parameter of a group, as far as the optimizer needs it after construction.
struct Member {
  std::string name;
  Shape shape;    // of the whole parameter
  int64_t begin;  // elements [begin, begin + count) are this rank's: all, or a part of what is no matrix
  int64_t count;
  int64_t offset;    // of the first of them in the parameter buffer
  int64_t gradient;  // in the gradient buffer
  int64_t weight;    // in the weight buffer
  int64_t heads;     // equal blocks of rows that belong to a head each; 1: not by heads
  bool whole() const { return count == shape.count(); }
};

// Steps of a group that queue the same work. What is made once in a number of steps only, and what only the
// first one does, makes others.
enum class GroupPhase : uint8_t { plain, refresh, first };

// What a step works on: flat buffers in the registry's layout; where the work is shared among ranks, the
// gradients (and with Optimizer::Share::own_parameters the parameters) are those of this rank's own parts of
// the buckets, end to end (ShardPlan::own_offset).
struct StepTensors {
  Tensor parameters, gradients;
  Tensor weights;  // bf16 copy of all parameters, which the products read, or empty
  Tensor control;
  Tensor learning_rates;  // f64 (groups): of this step
  // f64 (groups): the momentums' beta of this step; may be empty where none warms up. A group is given its
  // own.
  Tensor betas = {};
  GroupPhase phase = GroupPhase::plain;  // of the group that steps; Optimizer::step sets it
  Tensor weight(int64_t offset, const Shape& shape) const {
    return weights ? weights.slice(offset, shape) : Tensor{};
  }
};

// What a group says of one of its parameters in Optimizer::table.
struct Rule {
  std::string method;  // "first 0.95, polar_express 5"
  std::string scale;   // "jordan -> x1.73"
};

class Group {
 public:
  Group(GroupConfig config, std::vector<Member> members)
      : config_(std::move(config)), members_(std::move(members)) {}
  virtual ~Group() = default;

  virtual void plan(MemoryPlan& memory, const Ops& ops, MatrixScratch& scratch) = 0;
  virtual void bind(Ops& ops, const Arena& arena) = 0;
  // Of the step that comes after this many applied ones.
  virtual GroupPhase phase(int64_t /*applied_steps*/) const { return GroupPhase::plain; }
  // `lr`: f64 (1).
  virtual void step(Ops& ops, const Tensor& lr, const StepTensors& tensors, const MatrixScratch& scratch) = 0;
  virtual std::vector<StateTensor> state() const = 0;
  virtual Rule rule(const Member& member) const = 0;
  // Of the step just made with a parameter (its first head, if by heads), from the state after it and the
  // gradients of it; writes into the scratch space only. Nothing if it is not a member, or the group has no
  // orthogonal factors. lr, beta, tensors: those of the step.
  virtual std::optional<Diagnosis> diagnose(Ops&, const std::string& /*parameter*/, double /*lr*/,
                                            double /*beta*/, const StepTensors&, const MatrixScratch&,
                                            const Spectrum&) const {
    return std::nullopt;
  }

  const GroupConfig& config() const { return config_; }
  const std::vector<Member>& members() const { return members_; }

 protected:
  // Throws `error`, which a factorization for these members has ended in, with the group's name and theirs:
  // of several only those whose gradient or state is not finite, if there are such.
  [[noreturn]] void fail_for(Ops& ops, const StepTensors& tensors, const std::vector<size_t>& members,
                             const Error& error) const;

  GroupConfig config_;
  std::vector<Member> members_;
};

}  // namespace polar
