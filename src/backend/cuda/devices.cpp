#include "backend/cuda/devices.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "tensor/memory_plan.h"

namespace polar::cuda {
namespace {

// How many devices there are, or why none can be used.
struct Count {
  int devices = 0;
  std::string problem;
};

Count count_devices() {
  Count count;
  const cudaError_t status = cudaGetDeviceCount(&count.devices);
  if (status == cudaSuccess && count.devices > 0) return count;
  cudaGetLastError();
  count.devices = 0;
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    count.problem = "no NVIDIA driver";
  else if (status == cudaErrorInsufficientDriver)
    count.problem =
        fmt::format("the NVIDIA driver is for CUDA {}.{}, this binary needs one for {}.{}", driver / 1000,
                    driver % 1000 / 10, CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  else
    count.problem = status == cudaSuccess ? "no GPU" : cudaGetErrorString(status);
  return count;
}

}  // namespace

DeviceCheck check_device(int index) {
  const Count count = count_devices();
  if (count.devices == 0) return {false, count.problem};
  if (index < 0 || index >= count.devices)
    return {false,
            fmt::format("no GPU {}: this process sees {} (CUDA_VISIBLE_DEVICES)", index, count.devices)};
  int major = 0;
  const cudaError_t status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index);
  if (status != cudaSuccess) return {false, cudaGetErrorString(status)};
  if (major < kLeastMajor)
    return {false, fmt::format("{}: the kernels need {}.0 or later", describe_device(index), kLeastMajor)};
  return {true, ""};
}

int count_usable() {
  int usable = 0;
  const int devices = count_devices().devices;
  for (int i = 0; i < devices; ++i) usable += check_device(i).usable ? 1 : 0;
  return usable;
}

std::string describe_device(int index) {
  cudaDeviceProp properties{};
  const cudaError_t status = cudaGetDeviceProperties(&properties, index);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  return fmt::format("{}, compute capability {}.{}, {}", properties.name, properties.major, properties.minor,
                     format_bytes(properties.totalGlobalMem));
}

std::string describe_devices() {
  std::string text = fmt::format("toolkit {}.{}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
  const Count count = count_devices();
  if (count.devices == 0) return text + "; no usable device (" + count.problem + ")";
  for (int i = 0; i < count.devices; ++i) text += fmt::format("; device {}: {}", i, describe_device(i));
  return text;
}

}  // namespace polar::cuda
