#include "plan/precision.h"

#include <string>

#include "base/error.h"

namespace polar {

void check_precision(const PrecisionConfig& precision, const Ops& ops) {
  if (ops.supports(DType::bf16)) return;
  const auto check = [&](const char* key, const std::string& value) {
    if (value != "fp32")
      fail_usage("precision.{}: found {}, which this device ({}) does not compute in; expected fp32", key,
                 value, ops.device_name());
  };
  check("compute", precision.compute);
  check("master", precision.master);
  check("gradients", precision.gradients);
}

}  // namespace polar
