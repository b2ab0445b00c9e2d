// Kernels that were translated from nvcc's PTX (kernels/emulator/ptx). A program that is linked with any runs
// every kernel by its translation; without, kernels run as the host compiler has compiled them.
#pragma once

#include <cstddef>
#include <source_location>
#include <vector>

namespace polar::emulator {

// Runs the calling thread's part; arguments[i] is where the kernel's argument i is.
using TranslatedFunction = void (*)(const void* const* arguments);

struct Translation {
  const char* name = nullptr;  // the kernel's, mangled
  TranslatedFunction run = nullptr;
  int maximum_threads = 0;  // of a block; 0: what the device allows
  int capability = 0;       // 80, 90: the device that is emulated then
  std::vector<size_t> parameter_bytes;
};

void register_translation(Translation translation);
bool runs_translations();
// The translation of the kernel at this address. Fails if there is none, or one with other parameters.
const Translation& translation_of(const void* kernel, const std::vector<size_t>& parameter_bytes,
                                  std::source_location where);

}  // namespace polar::emulator
