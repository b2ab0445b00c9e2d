// Which number formats a device can train in.
#pragma once

#include <string>
#include <vector>

#include "config/experiment.h"
#include "ops/ops.h"

namespace polar {

// A key of the configuration that asks for a format which the device does not have.
struct PrecisionGap {
  std::string key, found, expected;  // "precision.compute", "bf16", "fp32"
};
std::vector<PrecisionGap> precision_gaps(const PrecisionConfig& precision, const Ops& ops);

// Error (exit code 2) for the first gap. Call it before anything is allocated.
void check_precision(const PrecisionConfig& precision, const Ops& ops);

}  // namespace polar
