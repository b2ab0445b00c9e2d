// Whether a device computes in the precision that a configuration asks for.
#pragma once

#include "config/experiment.h"
#include "ops/ops.h"

namespace polar {

// Refuses (exit code 2) a precision that the device does not have: names key, what was found, what was
// expected.
void check_precision(const PrecisionConfig& precision, const Ops& ops);

}  // namespace polar
