// Whether the kernels for Hopper (wgmma, TMA) may be launched; else the portable ones do the same. For
// launchers.
#pragma once

#include <cuda_runtime_api.h>

namespace polar::kernels {

// They are in this binary if it was compiled for sm_90a (POLAR_SM90A; the emulator always has them), and run
// on devices of compute capability 9.0 only.
inline bool on_hopper() {
#if defined(POLAR_SM90A) || !defined(__CUDACC__)
  int device = 0, major = 0, minor = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device) == cudaSuccess &&
         major == 9 && minor == 0;
#else
  return false;
#endif
}

}  // namespace polar::kernels
