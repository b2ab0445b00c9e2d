// NCCL's calls that the CUDA backend makes, on the emulator and between real processes of this machine: each
// communicator connects the ranks with Gloo, and a collective is an operation of the emulated stream that it
// is queued on. Sums are taken in the order of the ranks, so results do not depend on NCCL's algorithms.
// Streams have to be eager (not EMULATOR_LAZY=1): a GPU gets on while its host waits for another rank, lazy
// streams do not.
#include <nccl.h>
#include <pthread.h>
#include <signal.h>

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <sstream>
#include <thread>
#include <utility>

#include "base/error.h"
#include "comm/host_collectives.h"
#include "comm/quiet_thread.h"
#include "emulator/runtime.h"

namespace {

using namespace std::chrono_literals;
using polar::DType;
using polar::Tensor;

constexpr auto kPatience = 600s;  // NCCL itself waits for ever; ncclCommAbort ends it

bool dtype_of(ncclDataType_t type, DType& dtype) {
  if (type == ncclFloat32) dtype = DType::f32;
  if (type == ncclFloat64) dtype = DType::f64;
  if (type == ncclBfloat16) dtype = DType::bf16;
  return type == ncclFloat32 || type == ncclFloat64 || type == ncclBfloat16;
}

}  // namespace

// Never freed: a stream may still have operations of it.
struct ncclComm {
  int rank = 0, ranks = 1;
  std::unique_ptr<polar::Rendezvous> rendezvous;
  std::unique_ptr<polar::Mesh> mesh;
  std::unique_ptr<polar::HostCollectives> collectives;
  std::atomic<ncclResult_t> status = ncclInProgress;
  std::string error;  // written before `status` says that there is one
  std::thread connecting;

  void connect(const polar::ProcessGroup& group) {
    try {
      rendezvous = std::make_unique<polar::Rendezvous>(group, kPatience);
      mesh = std::make_unique<polar::Mesh>(*rendezvous, rank, ranks, kPatience);
      collectives = std::make_unique<polar::HostCollectives>(*mesh);
      status = ncclSuccess;
    } catch (const std::exception& failure) {
      fail(failure.what());
    }
  }
  void fail(const std::string& why) {
    error = why;
    status = ncclRemoteError;
  }
  template <class Work>
  void carry_out(const Work& work) {
    if (status != ncclSuccess) return;
    sigset_t pipe, before;  // what a peer that is gone is answered with
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    try {
      work(*collectives);
    } catch (const std::exception& failure) {
      fail(failure.what());
      mesh->close();  // as the end of one connection ends NCCL's communicator
    }
    const timespec now{};
    while (sigtimedwait(&pipe, nullptr, &now) > 0) continue;  // taken, so that it is not delivered below
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  // As an operation of the stream.
  template <class Work>
  ncclResult_t queue(cudaStream_t stream, Work work) {
    if (status != ncclSuccess) return status;
    const std::lock_guard lock(polar::emulator::runtime().mutex);
    const cudaError_t queued =
        polar::emulator::enqueue_outside(stream, [this, work = std::move(work)] { carry_out(work); });
    return queued == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
  }
};

namespace {

struct Group {
  ncclComm* comm = nullptr;
  cudaStream_t stream = nullptr;
  std::map<int, Tensor> sends, receives;  // by peer
};
thread_local std::optional<Group> group;

ncclResult_t note(std::map<int, Tensor>& rows, void* data, size_t count, ncclDataType_t type, int peer,
                  ncclComm* comm, cudaStream_t stream) {
  Tensor row{data, {}, {static_cast<int64_t>(count)}};
  if (!dtype_of(type, row.dtype) || peer < 0 || peer >= comm->ranks || rows.contains(peer))
    return ncclInvalidArgument;
  if (group->comm != nullptr && (group->comm != comm || group->stream != stream)) return ncclInvalidUsage;
  group->comm = comm;
  group->stream = stream;
  rows[peer] = row;
  return ncclSuccess;
}

// (N, count), if the rows lie one after the other.
bool rows_of(const Group& of, const std::map<int, Tensor>& rows, Tensor& all) {
  if (static_cast<int>(rows.size()) != of.comm->ranks) return false;
  const Tensor& first = rows.at(0);
  all = {first.data, first.dtype, {of.comm->ranks, first.count()}};
  for (const auto& [peer, row] : rows)
    if (row.data != all.slice(peer * first.count(), {first.count()}).data || row.count() != first.count())
      return false;
  return true;
}

}  // namespace

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}

// The port of a store that this process holds until its end, and the run's id in it.
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::random_device random;
  const std::string run_id = fmt::format("nccl-{:08x}{:08x}", random(), random());
  static std::vector<std::unique_ptr<polar::StoreServer>> stores;
  stores.push_back(std::make_unique<polar::StoreServer>(0, run_id));
  const std::string text = fmt::format("{} {}", stores.back()->port(), run_id);
  std::memset(id, 0, sizeof *id);
  std::memcpy(id->internal, text.data(), text.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  id.internal[sizeof id.internal - 1] = '\0';
  std::istringstream text(id.internal);
  polar::ProcessGroup group;
  text >> group.master_port >> group.run_id;
  if (!text || ranks < 1 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  group.rank = group.local_rank = rank;
  group.world_size = group.local_world_size = ranks;
  group.master_addr = "127.0.0.1";
  group.host_store = true;
  *comm = new ncclComm;
  (*comm)->rank = rank;
  (*comm)->ranks = ranks;
  (*comm)->connecting = polar::quiet_thread([made = *comm, group] { made->connect(group); });
  if (config != nullptr && config->blocking == 0) return ncclInProgress;
  (*comm)->connecting.join();
  return (*comm)->status;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm->connecting.joinable()) comm->connecting.join();
  if (comm->mesh) comm->mesh->close();
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm->status == ncclInProgress) {
    comm->connecting.detach();  // it ends with the process
    return ncclSuccess;
  }
  if (comm->connecting.joinable()) comm->connecting.join();
  if (comm->mesh) comm->mesh->abort();
  return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* status) {
  *status = comm->status;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclSuccess       ? "no error"
         : result == ncclRemoteError ? "remote process exited"
                                     : "an error";
}

const char* ncclGetLastError(ncclComm_t comm) {
  return comm != nullptr && comm->status == ncclRemoteError ? comm->error.c_str() : "";
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  Tensor tensor{to, {}, {static_cast<int64_t>(count)}};
  if (operation != ncclSum || !dtype_of(type, tensor.dtype)) return ncclInvalidArgument;
  return comm->queue(stream, [=](polar::HostCollectives& collectives) {
    if (from != to) std::memcpy(to, from, tensor.bytes());
    collectives.all_reduce_sum(tensor);
  });
}

ncclResult_t ncclReduceScatter(const void* from, void* to, size_t count, ncclDataType_t type,
                               ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  const auto own_count = static_cast<int64_t>(count);
  Tensor parts{const_cast<void*>(from), {}, {comm->ranks, own_count}}, own{to, {}, {own_count}};
  if (operation != ncclSum || !dtype_of(type, parts.dtype)) return ncclInvalidArgument;
  own.dtype = parts.dtype;
  return comm->queue(
      stream, [=](polar::HostCollectives& collectives) { collectives.reduce_scatter_sum(parts, own); });
}

ncclResult_t ncclAllGather(const void* from, void* to, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  const auto own_count = static_cast<int64_t>(count);
  Tensor parts{to, {}, {comm->ranks, own_count}};
  if (!dtype_of(type, parts.dtype)) return ncclInvalidArgument;
  return comm->queue(stream, [=](polar::HostCollectives& collectives) {
    const Tensor own = parts.slice(comm->rank * own_count, {own_count});
    if (from != own.data) std::memcpy(own.data, from, own.bytes());
    collectives.all_gather(parts);
  });
}

ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  Tensor tensor{to, {}, {static_cast<int64_t>(count)}};
  if (!dtype_of(type, tensor.dtype) || root < 0 || root >= comm->ranks) return ncclInvalidArgument;
  return comm->queue(stream, [=](polar::HostCollectives& collectives) {
    if (comm->rank == root && from != to) std::memcpy(to, from, tensor.bytes());
    collectives.broadcast({static_cast<std::byte*>(tensor.data), tensor.bytes()}, root);
  });
}

// Sends and receives between GroupStart and GroupEnd are one operation; the emulation knows the one that the
// program makes of them: rows of equal length from every rank to every rank, its own included.
ncclResult_t ncclGroupStart() {
  group.emplace();
  return ncclSuccess;
}

ncclResult_t ncclSend(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (!group) return ncclInvalidUsage;
  return note(group->sends, const_cast<void*>(from), count, type, peer, comm, stream);
}

ncclResult_t ncclRecv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  if (!group) return ncclInvalidUsage;
  return note(group->receives, to, count, type, peer, comm, stream);
}

ncclResult_t ncclGroupEnd() {
  const std::optional<Group> ended = std::exchange(group, std::nullopt);
  if (!ended || ended->comm == nullptr) return ncclInvalidUsage;
  Tensor parts, arrived;
  if (!rows_of(*ended, ended->sends, parts) || !rows_of(*ended, ended->receives, arrived))
    return ncclInvalidUsage;
  return ended->comm->queue(
      ended->stream, [=](polar::HostCollectives& collectives) { collectives.all_to_all(parts, arrived); });
}

}  // extern "C"
