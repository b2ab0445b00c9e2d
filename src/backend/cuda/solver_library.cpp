#include "backend/cuda/solver_library.h"

#include <string>

#include "backend/cuda/library.h"
#include "backend/cuda/runtime.h"
#include "base/error.h"

namespace polar::cuda {
namespace {

constexpr const char* kOtherOracles =
    "or use oracle newton_schulz or polar_express, which need no library, or run.device=cpu";

template <class Function>
void find(const Library& library, const char* name, const char* symbol, Function& function) {
  if (!library.find(symbol, function))
    fail(
        "cuSOLVER: {} has no function {}: it is another version than this program was compiled with "
        "({}.{}); install that, {}",
        name, symbol, CUSOLVER_VER_MAJOR, CUSOLVER_VER_MINOR, kOtherOracles);
}

const char* name_of(cusolverStatus_t status) {
  switch (status) {
#define POLAR_CASE(code) \
  case code:             \
    return #code
    POLAR_CASE(CUSOLVER_STATUS_NOT_INITIALIZED);
    POLAR_CASE(CUSOLVER_STATUS_ALLOC_FAILED);
    POLAR_CASE(CUSOLVER_STATUS_INVALID_VALUE);
    POLAR_CASE(CUSOLVER_STATUS_ARCH_MISMATCH);
    POLAR_CASE(CUSOLVER_STATUS_EXECUTION_FAILED);
    POLAR_CASE(CUSOLVER_STATUS_INTERNAL_ERROR);
    POLAR_CASE(CUSOLVER_STATUS_NOT_SUPPORTED);
    POLAR_CASE(CUSOLVER_STATUS_INVALID_WORKSPACE);
#undef POLAR_CASE
    default:
      return "a status";
  }
}

const char* hint(cusolverStatus_t status) {
  switch (status) {
    case CUSOLVER_STATUS_NOT_INITIALIZED:
    case CUSOLVER_STATUS_ALLOC_FAILED:
      return "cuSOLVER keeps some GPU memory of its own, and it may be full: use a smaller "
             "batch.micro_sequences";
    case CUSOLVER_STATUS_ARCH_MISMATCH:
      return "the GPU is older than this library supports: use oracle newton_schulz or polar_express";
    case CUSOLVER_STATUS_EXECUTION_FAILED:
    case CUSOLVER_STATUS_INTERNAL_ERROR:
      return "a kernel queued earlier may have failed: CUDA_LAUNCH_BLOCKING=1 or compute-sanitizer names it";
    default:
      return "a factorization that cuSOLVER does not do (a defect): use oracle newton_schulz or "
             "polar_express";
  }
}

}  // namespace

SolverLibrary open_solver_library(const char* name) {
  const Library library(name);
  if (!library)
    fail(
        "cuSOLVER, which oracle svd, qdwh, zolo_pd and gram_eigh need on a GPU, cannot be loaded ({}): "
        "install CUDA {}'s libraries and put their folder into LD_LIBRARY_PATH, {}",
        library.why(), CUDART_VERSION / 1000, kOtherOracles);
  SolverLibrary functions;
  find(library, name, "cusolverDnCreate", functions.create);
  find(library, name, "cusolverDnDestroy", functions.destroy);
  find(library, name, "cusolverDnSetStream", functions.set_stream);
  find(library, name, "cusolverDnCreateGesvdjInfo", functions.create_parameters);
  find(library, name, "cusolverDnDestroyGesvdjInfo", functions.destroy_parameters);
  find(library, name, "cusolverDnDgesvdj_bufferSize", functions.svd_buffer_size);
  find(library, name, "cusolverDnDgesvdj", functions.svd);
  find(library, name, "cusolverDnSgeqrf_bufferSize", functions.qr_buffer_size);
  find(library, name, "cusolverDnSgeqrf", functions.qr);
  find(library, name, "cusolverDnSorgqr_bufferSize", functions.make_q_buffer_size);
  find(library, name, "cusolverDnSorgqr", functions.make_q);
  find(library, name, "cusolverDnSpotrf_bufferSize", functions.cholesky_buffer_size);
  find(library, name, "cusolverDnSpotrf", functions.cholesky);
  find(library, name, "cusolverDnSpotrs", functions.cholesky_solve);
  find(library, name, "cusolverDnDsyevd_bufferSize", functions.eigen_buffer_size);
  find(library, name, "cusolverDnDsyevd", functions.eigen);
  return functions;
}

#ifdef POLAR_LINKED_SOLVER  // its functions are part of the program, as those of the tests' emulator are
const SolverLibrary& solver_library() {
  static const SolverLibrary linked{&cusolverDnCreate,
                                    &cusolverDnDestroy,
                                    &cusolverDnSetStream,
                                    &cusolverDnCreateGesvdjInfo,
                                    &cusolverDnDestroyGesvdjInfo,
                                    &cusolverDnDgesvdj_bufferSize,
                                    &cusolverDnDgesvdj,
                                    &cusolverDnSgeqrf_bufferSize,
                                    &cusolverDnSgeqrf,
                                    &cusolverDnSorgqr_bufferSize,
                                    &cusolverDnSorgqr,
                                    &cusolverDnSpotrf_bufferSize,
                                    &cusolverDnSpotrf,
                                    &cusolverDnSpotrs,
                                    &cusolverDnDsyevd_bufferSize,
                                    &cusolverDnDsyevd};
  return linked;
}
#else
const SolverLibrary& solver_library() {
  static const SolverLibrary opened =
      open_solver_library(("libcusolver.so." + std::to_string(CUSOLVER_VER_MAJOR)).c_str());
  return opened;
}
#endif

SolverHandle make_solver_handle() {
  cusolverDnHandle_t handle = nullptr;
  CUSOLVER_CHECK(solver_library().create(&handle));
  return SolverHandle(handle);
}

void check(cusolverStatus_t status, const char* call, const char* file, int line) {
  if (status == CUSOLVER_STATUS_SUCCESS) return;
  fail("cuSOLVER: {} at {}:{} gave {} ({}); {}", call_text(call), file_name(file), line, name_of(status),
       static_cast<int>(status), hint(status));
}

}  // namespace polar::cuda
