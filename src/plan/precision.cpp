#include "plan/precision.h"

#include "base/error.h"

namespace polar {

std::vector<PrecisionGap> precision_gaps(const PrecisionConfig& precision, const Ops& ops) {
  std::vector<PrecisionGap> gaps;
  const auto look = [&](const char* key, const std::string& found, bool bf16) {
    if (found != "fp32" && !(found == "bf16" && bf16)) gaps.push_back({key, found, "fp32"});
  };
  const bool bf16 = ops.supports(DType::bf16);
  look("precision.compute", precision.compute, bf16);
  look("precision.master", precision.master, false);
  look("precision.gradients", precision.gradients, false);
  return gaps;
}

void check_precision(const PrecisionConfig& precision, const Ops& ops) {
  for (const PrecisionGap& gap : precision_gaps(precision, ops))
    fail_usage("{}: found {}, expected {}: '{}' has no {}", gap.key, gap.found, gap.expected,
               ops.device_name(), gap.found);
}

}  // namespace polar
