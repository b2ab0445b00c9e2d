// The CUDA devices of this machine.
#pragma once

#include <string>

namespace polar::cuda {

// The kernels need bf16 tensor cores: compute capability 8.0 (Ampere) or later.
constexpr int kLeastMajor = 8;

struct DeviceCheck {
  bool usable = false;
  std::string found;  // why not, in words for people: "no NVIDIA driver (...)"
};
// Can this backend use the device with this index? Never throws.
DeviceCheck check_device(int index);

// How many devices it can use. Never throws.
int count_usable();

// "NVIDIA H100 80GB HBM3, compute capability 9.0, 79.6 GiB", or why it cannot be described.
std::string describe_device(int index);
// One line: "toolkit 13.0; device 0: NVIDIA H100, compute capability 9.0, 79.6 GiB", or why there is none.
std::string describe_devices();

}  // namespace polar::cuda
