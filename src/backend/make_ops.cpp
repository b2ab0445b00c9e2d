// Chooses the backend and the communicator that goes with it: the only place where they are named. (One file,
// for a program that needs the one finds the other, in whatever order its libraries are linked.)
#include "backend/cpu/cpu_ops.h"
#include "base/error.h"
#include "comm/communicator.h"
#include "comm/gloo.h"
#include "ops/ops.h"
#ifdef POLAR_HAVE_CUDA
#include "backend/cuda/cuda_ops.h"
#include "backend/cuda/devices.h"
#endif
#ifdef POLAR_HAVE_NCCL
#include "backend/cuda/nccl_communicator.h"
#endif

namespace polar {
namespace {

#ifdef POLAR_HAVE_CUDA
std::string cuda_problem(int index) {
  const cuda::DeviceCheck check = cuda::check_device(index);
  return check.usable ? "" : check.found;
}
std::unique_ptr<Ops> make_cuda(const DeviceOptions& options) {
  const cuda::AttentionSettings attention{options.attention_engine, options.attention_choices};
  if (options.plan_only) return std::make_unique<cuda::CudaOps>(cuda::CudaOps::PlanOnly{attention});
  return std::make_unique<cuda::CudaOps>(options.index, options.gemm_cache, attention);
}
int count_usable() {
  return cuda::count_usable();
}
constexpr bool kHaveCuda = true;
#else
constexpr bool kHaveCuda = false;
std::string cuda_problem(int /*index*/) {
  return "this binary was built without CUDA";
}
int count_usable() {
  return 0;
}
std::unique_ptr<Ops> make_cuda(const DeviceOptions& /*options*/) {
  return nullptr;
}
#endif

std::unique_ptr<Ops> make_cpu(const DeviceOptions& options) {
  if (options.attention_engine == "cudnn")
    fail_usage(
        "attention.engine: cudnn is for device cuda, and this is the CPU; native and auto work on both");
  return std::make_unique<cpu::CpuOps>(options.threads);
}

std::unique_ptr<Communicator> make_nccl(const ProcessGroup& group, std::chrono::milliseconds timeout,
                                        Ops& ops) {
#ifdef POLAR_HAVE_NCCL
  if (auto* cuda_ops = dynamic_cast<cuda::CudaOps*>(&ops))
    return cuda::make_nccl_communicator(group, timeout, *cuda_ops);
#endif
  fail_usage(
      "{} processes on {}: this binary was built without NCCL (nccl.h was not found when it was "
      "configured); expected one process, or the device cpu",
      group.world_size, timeout.count() >= 0 ? ops.device_name() : "");
}

}  // namespace

std::unique_ptr<Ops> make_ops(const DeviceOptions& options) {
  if (options.device == "cpu") return make_cpu(options);
  if (options.device != "auto" && options.device != "cuda")
    fail_usage("device '{}': expected auto, cpu or cuda", options.device);
  if (options.plan_only && options.device == "cuda" && kHaveCuda) return make_cuda(options);
  const std::string problem = cuda_problem(options.index);
  if (problem.empty()) return make_cuda(options);
  if (options.device == "auto") return make_cpu(options);
  fail_usage("device 'cuda': found {}; `polartrain --version` lists the devices, device 'cpu' always works",
             problem);
}

int count_gpus() {
  return count_usable();
}

std::unique_ptr<Communicator> make_communicator(const ProcessGroup& group, const CommOptions& options,
                                                Ops& ops) {
  const std::string& backend = options.backend;
  if (backend != "auto" && backend != "gloo" && backend != "nccl")
    fail_usage("communicator: found backend '{}', expected auto, gloo or nccl", backend);
  if (group.world_size == 1) return make_single_communicator(ops);
  if (!ops.host_memory()) {
    if (backend == "gloo")
      fail_usage(
          "communicator: gloo works on the memory of the host, and the device is {}; expected nccl or auto",
          ops.device_name());
    return make_nccl(group, options.timeout, ops);
  }
  if (backend == "nccl")
    fail_usage("communicator: nccl works on the memory of GPUs, and the device is {}; expected gloo or auto",
               ops.device_name());
  return make_gloo_communicator(group, options.timeout);
}

std::string describe_backends() {
  std::string text = "backends:\n  cpu   " + cpu::CpuOps(0).device_name() + "\n";
#ifdef POLAR_HAVE_CUDA
  return text + "  cuda  " + cuda::describe_devices();
#else
  return text + "  cuda  not compiled in";
#endif
}

}  // namespace polar
