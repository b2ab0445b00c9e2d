// cuSOLVER's functions that this backend calls. The library is opened when it is first needed: it is large,
// and whoever uses polynomial oracles only does not need it.
#pragma once

#include <cusolverDn.h>

#include <memory>
#include <type_traits>

namespace polar::cuda {

struct SolverLibrary {
  decltype(&cusolverDnCreate) create = nullptr;
  decltype(&cusolverDnDestroy) destroy = nullptr;
  decltype(&cusolverDnSetStream) set_stream = nullptr;
  decltype(&cusolverDnCreateGesvdjInfo) create_parameters = nullptr;
  decltype(&cusolverDnDestroyGesvdjInfo) destroy_parameters = nullptr;
  decltype(&cusolverDnDgesvdj_bufferSize) svd_buffer_size = nullptr;
  decltype(&cusolverDnDgesvdj) svd = nullptr;
  decltype(&cusolverDnSgeqrf_bufferSize) qr_buffer_size = nullptr;
  decltype(&cusolverDnSgeqrf) qr = nullptr;
  decltype(&cusolverDnSorgqr_bufferSize) make_q_buffer_size = nullptr;
  decltype(&cusolverDnSorgqr) make_q = nullptr;
  decltype(&cusolverDnSpotrf_bufferSize) cholesky_buffer_size = nullptr;
  decltype(&cusolverDnSpotrf) cholesky = nullptr;
  decltype(&cusolverDnSpotrs) cholesky_solve = nullptr;
  decltype(&cusolverDnDsyevd_bufferSize) eigen_buffer_size = nullptr;
  decltype(&cusolverDnDsyevd) eigen = nullptr;
};

// Opens the library of this name (dlopen's rules) for the rest of the process. Error if it is not found or
// lacks a function: says which, and what to do.
SolverLibrary open_solver_library(const char* name);

// The cuSOLVER of the CUDA version that this was compiled with, opened once. Error as above.
const SolverLibrary& solver_library();

struct DestroySolverHandle {
  void operator()(cusolverDnHandle_t handle) const noexcept { solver_library().destroy(handle); }
};
using SolverHandle = std::unique_ptr<std::remove_pointer_t<cusolverDnHandle_t>, DestroySolverHandle>;
// Error if cuSOLVER cannot be loaded or gets no memory.
SolverHandle make_solver_handle();

// Throws an Error unless `status` is CUSOLVER_STATUS_SUCCESS: the call's text, file:line, the status, a hint.
#define CUSOLVER_CHECK(...) ::polar::cuda::check((__VA_ARGS__), #__VA_ARGS__, __FILE__, __LINE__)
void check(cusolverStatus_t status, const char* call, const char* file, int line);

}  // namespace polar::cuda
