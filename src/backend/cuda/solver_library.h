// cuSOLVER's functions that this backend calls. The library is opened when it is first needed: it is large,
// and whoever does not use the SVD oracle does not need it.
#pragma once

#include <cusolverDn.h>

namespace polar::cuda {

struct SolverLibrary {
  decltype(&cusolverDnCreate) create = nullptr;
  decltype(&cusolverDnDestroy) destroy = nullptr;
  decltype(&cusolverDnSetStream) set_stream = nullptr;
  decltype(&cusolverDnCreateGesvdjInfo) create_parameters = nullptr;
  decltype(&cusolverDnDestroyGesvdjInfo) destroy_parameters = nullptr;
  decltype(&cusolverDnDgesvdj_bufferSize) svd_buffer_size = nullptr;
  decltype(&cusolverDnDgesvdj) svd = nullptr;
};

// Opens the library of this name (dlopen's rules) for the rest of the process. Error if it is not found or
// lacks a function: says which, and what to do.
SolverLibrary open_solver_library(const char* name);

// The cuSOLVER of the CUDA version that this was compiled with, opened once. Error as above.
const SolverLibrary& solver_library();

// Throws an Error unless `status` is CUSOLVER_STATUS_SUCCESS: the call's text, file:line, the status, a hint.
#define CUSOLVER_CHECK(...) ::polar::cuda::check((__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
void check(cusolverStatus_t status, const char* call, const char* file, int line);

}  // namespace polar::cuda
