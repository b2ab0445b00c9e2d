// What the replacements of cuSOLVER's functions share.
#pragma once

#include <cusolverDn.h>

#include "report.h"
#include "runtime.h"

struct cusolverDnContext {
  cudaStream_t stream = nullptr;
};

namespace polar::emulator {

// The status for arguments that cuSOLVER would not take; says why on stderr.
cusolverStatus_t refused(const char* why);

}  // namespace polar::emulator
