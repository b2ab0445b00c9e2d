// cuDNN as a library that is loaded when it is asked for, and not needed before.
#pragma once

#include <cstddef>
#include <string>

namespace polar::cuda {

constexpr size_t kOldestCudnn = 90000;  // 9.0.0, as cudnnGetVersion gives it

// Opens libcudnn.so.9 where the system's loader finds it (LD_LIBRARY_PATH, the binary's own list, the
// system's folders). Empty: done; else what is missing. Afterwards cuDNN's functions can be called.
std::string load_cudnn();

}  // namespace polar::cuda
