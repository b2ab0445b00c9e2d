#include "backend/cuda/nccl_library.h"

#include "backend/cuda/library.h"
#include "base/error.h"

namespace polar::cuda {
namespace {

template <class Function>
void find(const Library& library, const char* name, const char* symbol, Function& function) {
  if (!library.find(symbol, function))
    fail_usage(
        "NCCL: {} has no function {}: it is older than the one this program was compiled with ({}.{}); "
        "install that or a newer one",
        name, symbol, NCCL_MAJOR, NCCL_MINOR);
}

}  // namespace

NcclLibrary open_nccl_library(const char* name) {
  const Library library(name);
  if (!library)
    fail_usage(
        "NCCL, which a run on several GPUs needs, cannot be loaded ({}): install libnccl2 and put its "
        "folder into LD_LIBRARY_PATH, or run one process",
        library.why());
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
  find(library, name, "ncclSend", functions.send);
  find(library, name, "ncclRecv", functions.receive);
  find(library, name, "ncclGroupStart", functions.group_start);
  find(library, name, "ncclGroupEnd", functions.group_end);
  return functions;
}

#ifdef POLAR_LINKED_NCCL  // its functions are part of the program, as the tests' emulation of them is
const NcclLibrary& nccl_library() {
  static const NcclLibrary linked{&ncclGetVersion,     &ncclGetUniqueId,  &ncclCommInitRankConfig,
                                  &ncclCommDestroy,    &ncclCommAbort,    &ncclCommGetAsyncError,
                                  &ncclGetErrorString, &ncclGetLastError, &ncclAllReduce,
                                  &ncclReduceScatter,  &ncclAllGather,    &ncclBroadcast,
                                  &ncclSend,           &ncclRecv,         &ncclGroupStart,
                                  &ncclGroupEnd};
  return linked;
}
#else
const NcclLibrary& nccl_library() {
  static const NcclLibrary opened = open_nccl_library("libnccl.so.2");
  return opened;
}
#endif

}  // namespace polar::cuda
