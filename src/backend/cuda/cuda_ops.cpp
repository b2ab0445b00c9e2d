#include "backend/cuda/cuda_ops.h"

#include "backend/cuda/attention_choice.h"
#include "backend/cuda/contract.h"
#include "backend/cuda/dense_solver.h"
#include "backend/cuda/devices.h"
#include "backend/cuda/gemm_plans.h"
#include "backend/cuda/peak.h"
#include "backend/cuda/svd.h"
#include "base/error.h"
#include "kernels/launch_count.h"

namespace polar::cuda {
namespace {

// The current device is a property of the calling thread.
int use(int device) {
  use_device(device);
  return device;
}

// Whether workspaces are planned for cuDNN too: the same answer on every machine, with a GPU or without.
bool plans_cudnn(const AttentionSettings& settings) {
  return wanted_here(settings.engine) != EngineWanted::native;
}

}  // namespace

CudaOps::CudaOps(int device, std::string gemm_cache, const AttentionSettings& attention)
    : device_(use(device)),
      gemm_(std::make_unique<GemmPlans>(std::move(gemm_cache), describe_device(device))),
      plans_cudnn_(plans_cudnn(attention)),
      attention_(make_attention_choice(attention.engine, attention.choices, describe_device(device))) {}

CudaOps::CudaOps(const PlanOnly& options)
    : device_(-1), stream_(nullptr), upload_stream_(nullptr), plans_cudnn_(plans_cudnn(options.attention)) {}

void CudaOps::set_attention(std::unique_ptr<AttentionChoice> attention) {
  plans_cudnn_ = attention->wanted() != EngineWanted::native;
  attention_ = std::move(attention);
}

CudaOps::~CudaOps() = default;

size_t CudaOps::own_workspace() const {
  return kScratchBytes + GemmPlans::kWorkspaceBytes;
}

void CudaOps::lend_workspace(const Tensor& workspace) {
  require(workspace.bytes() == own_workspace(), "lend_workspace: own_workspace() bytes");
  require(workspace_ == nullptr, "lend_workspace: before the first operation that needs it");
  workspace_ = workspace.as<std::byte>();
}

std::byte* CudaOps::workspace() {
  if (workspace_ == nullptr) {
    own_memory_ = make_device_memory(own_workspace());
    workspace_ = own_memory_.get();
  }
  return workspace_;
}

std::string CudaOps::device_name() const {
  return device_ < 0 ? "cuda: planned" : "cuda: " + describe_device(device_);
}

void* CudaOps::allocate(size_t bytes) {
  use_device(device_);
  return allocate_device(bytes);
}

void CudaOps::release(void* memory) noexcept {
  release_device(memory);
}

void* CudaOps::allocate_host(size_t bytes) {
  use_device(device_);
  return allocate_pinned(bytes);
}

void CudaOps::release_host(void* memory) noexcept {
  release_pinned(memory);
}

// Whether `from` is pinned or pageable: it has been read on return. For pageable memory the driver copies
// through its own pinned buffers; for pinned memory only the wait makes it true.
void CudaOps::upload(const Tensor& to, const void* from) {
  CUDA_CHECK(cudaMemcpyAsync(to.data, from, to.bytes(), cudaMemcpyHostToDevice, stream_.get()));
  stream_.synchronize();
}

void CudaOps::download(void* to, const Tensor& from) {
  CUDA_CHECK(cudaMemcpyAsync(to, from.data, from.bytes(), cudaMemcpyDeviceToHost, stream_.get()));
  stream_.synchronize();
}

void CudaOps::synchronize() {
  upload_stream_.synchronize();
  stream_.synchronize();
}

PeakRate CudaOps::peak_rate(DType compute) const {
  return device_ < 0 ? PeakRate{} : peak_of_device(device_, compute);
}

int64_t CudaOps::launches() const {
  return kernels::launch_count.load(std::memory_order_relaxed);
}

}  // namespace polar::cuda
