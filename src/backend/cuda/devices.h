// The CUDA devices of this machine. Training on them is not in this version: the operations follow.
#pragma once

#include <string>

namespace polar::cuda {

// One line: "toolkit 13.0; device 0: NVIDIA H100, compute capability 9.0, 79.6 GiB", or why there is none.
std::string describe_devices();

}  // namespace polar::cuda
