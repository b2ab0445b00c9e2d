// Chooses the backend: the only place where one is named.
#include "backend/cpu/cpu_ops.h"
#include "base/error.h"
#include "ops/ops.h"

namespace polar {

std::unique_ptr<Ops> make_ops(const DeviceOptions& options) {
  if (options.device == "auto" || options.device == "cpu")
    return std::make_unique<cpu::CpuOps>(options.threads);
  fail_usage("run.device: found '{}', expected auto or cpu (the CUDA backend is not in this version)",
             options.device);
}

std::string describe_backends() {
  return "backends: cpu";
}

}  // namespace polar
