// Matrix problems for looking at optimizers: small enough for many runs, with a truth that is known.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ops/ops.h"
#include "tensor/registry.h"

namespace polar::lab {

// A function of one or more matrices with its gradient in fp32 on a device, and what is measured of it in
// fp64 on the host. Everything random is a pure function of the seed.
class Problem {
 public:
  virtual ~Problem() = default;
  // The unknown matrices and their places in flat buffers.
  virtual const ParameterRegistry& registry() const = 0;
  // Where the runs begin (flat, host memory).
  virtual std::vector<float> start() const = 0;
  // gradients = those at `parameters` (flat, device memory); queues work. `step` chooses a mini-batch where
  // there are any.
  virtual void gradient(const Tensor& parameters, const Tensor& gradients, int64_t step) = 0;

  struct Measure {
    double gap = 0.0;  // f - f*, or f where f* is not known
    // Condition number (largest over smallest singular value that is not rounding) of the residual and of the
    // gradient, and the gradient's nuclear norm; 0: not measured.
    double residual_condition = 0.0, gradient_condition = 0.0, gradient_nuclear = 0.0;
  };
  // At `parameters` (flat, host memory).
  virtual Measure measure(const std::vector<float>& parameters) const = 0;

  // A step of a reference method, if the problem has one: parameters are changed in place. Newton's method
  // for the quadratic, alternating gradient descent for completion.
  virtual bool reference_step(const Tensor& parameters, double lr) = 0;
};

struct QuadraticSizes {
  int64_t m = 500, n = 100, p = 1000, q = 250;
};
// f(X) = 1/2 ||A X B - C||_F^2 with X (m, n), A (p, m), B (n, q), C (p, q), all N(0, 1), X_0 ~ U(-1, 1);
// section 6.1 of the PolarGrad paper (arXiv 2505.21799). Reference: Newton's method.
std::unique_ptr<Problem> make_quadratic(Ops& ops, const QuadraticSizes& sizes, uint64_t seed);

}  // namespace polar::lab
