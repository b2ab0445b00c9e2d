#include "backend/cuda/devices.h"

#include <cuda_runtime.h>

#include <cstdio>

namespace polar::cuda {
namespace {

std::string describe_device(int index) {
  cudaDeviceProp properties{};
  const cudaError_t status = cudaGetDeviceProperties(&properties, index);
  char line[512];
  if (status != cudaSuccess)
    std::snprintf(line, sizeof line, "; device %d: %s", index, cudaGetErrorString(status));
  else
    std::snprintf(line, sizeof line, "; device %d: %s, compute capability %d.%d, %.1f GiB", index,
                  properties.name, properties.major, properties.minor,
                  static_cast<double>(properties.totalGlobalMem) / (1u << 30));
  return line;
}

}  // namespace

std::string describe_devices() {
  std::string text =
      "toolkit " + std::to_string(CUDART_VERSION / 1000) + "." + std::to_string(CUDART_VERSION % 1000 / 10);
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess || count == 0)
    return text + "; no usable device (" +
           (status != cudaSuccess ? cudaGetErrorString(status) : "none found") + ")";
  for (int i = 0; i < count; ++i) text += describe_device(i);
  return text;
}

}  // namespace polar::cuda
