#include "backend/cuda/nccl_library.h"

#include <dlfcn.h>

#include "base/error.h"

namespace polar::cuda {
namespace {

template <class Function>
void find(void* library, const char* name, const char* symbol, Function& function) {
  void* found = dlsym(library, symbol);
  if (found == nullptr)
    fail_usage(
        "NCCL: {} has no function {}: it is older than the one this program was compiled with ({}.{}); "
        "install that or a newer one",
        name, symbol, NCCL_MAJOR, NCCL_MINOR);
  function = reinterpret_cast<Function>(found);
}

}  // namespace

NcclLibrary open_nccl_library(const char* name) {
  void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();
    fail_usage(
        "NCCL, which a run on several GPUs needs, cannot be loaded ({}): install libnccl2 and put its "
        "folder into LD_LIBRARY_PATH, or run one process",
        why == nullptr ? name : why);
  }
  NcclLibrary functions;
  find(library, name, "ncclGetVersion", functions.get_version);
  find(library, name, "ncclGetUniqueId", functions.get_unique_id);
  find(library, name, "ncclCommInitRankConfig", functions.init_rank);
  find(library, name, "ncclCommDestroy", functions.destroy);
  find(library, name, "ncclCommAbort", functions.abort);
  find(library, name, "ncclCommGetAsyncError", functions.get_async_error);
  find(library, name, "ncclGetErrorString", functions.error_string);
  find(library, name, "ncclGetLastError", functions.last_error);
  find(library, name, "ncclAllReduce", functions.all_reduce);
  find(library, name, "ncclReduceScatter", functions.reduce_scatter);
  find(library, name, "ncclAllGather", functions.all_gather);
  find(library, name, "ncclBroadcast", functions.broadcast);
  return functions;
}

#ifdef POLAR_LINKED_NCCL  // its functions are part of the program, as the tests' emulation of them is
const NcclLibrary& nccl_library() {
  static const NcclLibrary linked{&ncclGetVersion,     &ncclGetUniqueId,  &ncclCommInitRankConfig,
                                  &ncclCommDestroy,    &ncclCommAbort,    &ncclCommGetAsyncError,
                                  &ncclGetErrorString, &ncclGetLastError, &ncclAllReduce,
                                  &ncclReduceScatter,  &ncclAllGather,    &ncclBroadcast};
  return linked;
}
#else
const NcclLibrary& nccl_library() {
  static const NcclLibrary opened = open_nccl_library("libnccl.so.2");
  return opened;
}
#endif

}  // namespace polar::cuda
