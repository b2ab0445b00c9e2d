// Chooses the backend: the only place where one is named.
#include "backend/cpu/cpu_ops.h"
#include "base/error.h"
#include "ops/ops.h"
#ifdef POLAR_HAVE_CUDA
#include "backend/cuda/devices.h"
#endif

namespace polar {

std::unique_ptr<Ops> make_ops(const DeviceOptions& options) {
  if (options.device == "auto" || options.device == "cpu")
    return std::make_unique<cpu::CpuOps>(options.threads);
  fail_usage("device '{}': expected auto or cpu (this version computes on the CPU only)", options.device);
}

std::string describe_backends() {
  std::string text = "backends:\n  cpu   " + cpu::CpuOps(0).device_name() + "\n";
#ifdef POLAR_HAVE_CUDA
  return text + "  cuda  device discovery only, no training yet; " + cuda::describe_devices();
#else
  return text + "  cuda  not compiled in";
#endif
}

}  // namespace polar
