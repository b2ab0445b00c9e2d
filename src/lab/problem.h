// Matrix problems for looking at optimizers: small enough for many runs, with a truth that is known. They are
// those of the PolarGrad paper (arXiv 2505.21799), section 6.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lab/draw.h"
#include "ops/ops.h"
#include "tensor/registry.h"

namespace polar::lab {

// What is measured of a problem.
struct Quantity {
  std::string key;    // in JSON: "gap", "gradient_condition"
  std::string label;  // of an axis: "f(X) - f*"
};

// A function of one or more matrices with its gradient in fp32 on a device, and what is measured of it in
// fp64 on the host. Everything random is a pure function of generator and seed, a mini-batch of these and the
// step. It is drawn in the order of the PolarGrad authors' scripts, which seed a second time, alike, before
// the start: with Generator::torch and seed 42 the problems are theirs.
class Problem {
 public:
  virtual ~Problem() = default;
  // The unknown matrices and their places in flat buffers.
  virtual const ParameterRegistry& registry() const = 0;
  // Where the runs begin: flat_count() values of the registry, host memory.
  virtual std::vector<float> start() const = 0;
  // gradients = those at `parameters` (flat, device memory); queues work. `step` chooses a mini-batch where
  // there are any.
  virtual void gradient(const Tensor& parameters, const Tensor& gradients, int64_t step) = 0;

  // The first is the gap f - f*. A condition number is the largest over the smallest singular value that is
  // not rounding; a nuclear norm the sum of all.
  virtual const std::vector<Quantity>& quantities() const = 0;
  // Their values at `parameters` (flat, host memory), of the whole function where there are mini-batches.
  virtual std::vector<double> measure(const std::vector<float>& parameters) const = 0;
  // f*, and how it is known, in words.
  virtual double minimum() const = 0;
  virtual std::string minimum_by() const = 0;

  // A step of a reference method: parameters are changed in place. Newton's method for the quadratic,
  // alternating gradient descent for completion; false: the problem has none.
  virtual bool reference_step(const Tensor& parameters, double lr) = 0;
};

struct QuadraticSizes {
  int64_t m = 500, n = 100, p = 1000, q = 250;
};
// Section 6.1: f(X) = 1/2 ||A X B - C||_F^2 with X (m, n), A (p, m), B (n, q), C (p, q), all N(0, 1),
// X_0 ~ U(-1, 1). Drawn are A, B, C; seeded again, X_0. Reference: Newton's method.
std::unique_ptr<Problem> make_quadratic(Ops& ops, const QuadraticSizes& sizes, uint64_t seed,
                                        Generator generator = Generator::polartrain);

struct LogisticSizes {
  int64_t rows = 10000, m = 1000, n = 100, q = 400, batch = 1000;
};
// Section 6.2: f(X) = sum softplus(-C .* (A X B)) with X (m, n), A (rows, m), B (n, q), both N(0, 1), labels
// C (rows, q) = 1 where N(0, 1) > 0.5, else -1, X_0 ~ U(-1, 1). A gradient is that of the sum over a
// mini-batch of rows, drawn with replacement. Drawn are A, B, C; seeded again, X_0 and the mini-batches. f*
// is found by a method of its own (logistic.cpp), which takes some seconds when the problem is made. No
// reference method.
std::unique_ptr<Problem> make_logistic(Ops& ops, const LogisticSizes& sizes, uint64_t seed,
                                       Generator generator = Generator::polartrain);

struct CompletionSizes {
  int64_t m = 500, n = 250, rank = 5;
  double share = 0.3;  // of the elements that are seen
};
// Section 6.3: f(X, Y) = ||mask .* (X Y^T - M)||_F^2 / |mask| with X (m, rank), Y (n, rank), M a product of
// such factors with elements N(0, 1), X_0 and Y_0 ~ U(-1, 1); f* = 0. Drawn are the factors of M, left
// and right, and the mask; seeded again, X_0 and Y_0. Reference: alternating gradient descent, a step in X
// and then one in Y.
std::unique_ptr<Problem> make_completion(Ops& ops, const CompletionSizes& sizes, uint64_t seed,
                                         Generator generator = Generator::polartrain);

}  // namespace polar::lab
