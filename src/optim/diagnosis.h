// What diagnostics know of the step that a matrix rule has just made with one matrix.
#pragma once

#include <vector>

#include "ops/ops.h"

namespace polar {

struct Diagnosis {
  double inner = 0.0;          // <U, M>: M what the oracle saw, U what it made of it
  double nuclear = 0.0;        // ||M||_*, from the singular values
  double condition = 0.0;      // of M: largest over smallest singular value, infinite where that is 0
  double orthogonality = 0.0;  // ||U^T U - I||_F / sqrt(s) for the short side s
  double update_rms = 0.0;     // root mean square of the change of an element, without decay
  double effective_lr = 0.0;   // what the direction was multiplied with
};

// The elements of a tensor (f32, f64 or bf16) of the device, which is waited for.
std::vector<double> download_values(Ops& ops, const Tensor& tensor);

}  // namespace polar
