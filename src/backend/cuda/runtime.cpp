#include "backend/cuda/runtime.h"

#include <cstring>

#include "base/error.h"
#include "tensor/memory_plan.h"

namespace polar::cuda {
namespace {

constexpr const char* kLessMemory =
    "use a smaller batch.micro_sequences or train.recompute: layer; `polartrain plan CONFIG` shows what "
    "needs "
    "how much";

// What to do about a status; never empty.
const char* hint(cudaError_t status) {
  switch (status) {
    case cudaErrorMemoryAllocation:
      return kLessMemory;
    case cudaErrorNoDevice:
    case cudaErrorInsufficientDriver:
    case cudaErrorInitializationError:
    case cudaErrorSystemDriverMismatch:
      return "check the driver with nvidia-smi, or run with run.device=cpu";
    case cudaErrorDevicesUnavailable:
      return "another process holds the GPU exclusively: end it, or choose another by CUDA_VISIBLE_DEVICES";
    case cudaErrorInvalidDevice:
      return "CUDA_VISIBLE_DEVICES says which GPUs a process may use";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorInvalidPtx:
    case cudaErrorJitCompilerNotFound:
      return "this binary was not compiled for this GPU: configure with -DCMAKE_CUDA_ARCHITECTURES=native";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorIllegalInstruction:
    case cudaErrorAssert:
      return "a kernel queued earlier failed (a defect): CUDA_LAUNCH_BLOCKING=1 or compute-sanitizer names "
             "it";
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
    case cudaErrorLaunchOutOfResources:
      return "a kernel was asked for what this GPU cannot do (a defect): report it with the GPU's name";
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
      return "the GPU's hardware failed: reset it or use another; the run continues from its last checkpoint";
    case cudaErrorLaunchTimeout:
      return "the GPU also drives a display that stopped a long kernel: use another GPU";
    default:
      return "if it happens again: compute-sanitizer names the cause; the run continues from its last "
             "checkpoint";
  }
}

}  // namespace

const char* file_name(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

std::string call_text(const char* call) {
  constexpr size_t kLongest = 80;
  const std::string text = call;
  return text.size() <= kLongest ? text : text.substr(0, text.find('(')) + "(...)";
}

void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // a status that is not sticky is told once
  fail("CUDA: {} at {}:{} gave {} ({}); {}", call_text(call), file_name(file), line, cudaGetErrorName(status),
       cudaGetErrorString(status), hint(status));
}

void use_device(int device) {
  CUDA_CHECK(cudaSetDevice(device));
}

void* allocate_device(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, bytes == 0 ? MemoryPlan::kAlignment : bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free_bytes = 0, total_bytes = 0;
    CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
    fail("CUDA: cannot allocate {} of GPU memory, {} of {} are free: {}", format_bytes(bytes),
         format_bytes(free_bytes), format_bytes(total_bytes), kLessMemory);
  }
  CUDA_CHECK(status);
  return memory;
}

// Called by destructors: after a failed kernel every call reports that failure again, and it has been told.
void release_device(void* memory) noexcept {
  if (memory != nullptr) cudaFree(memory);
}

void* allocate_pinned(size_t bytes) {
  void* memory = nullptr;
  const cudaError_t status = cudaMallocHost(&memory, bytes == 0 ? MemoryPlan::kAlignment : bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    fail(
        "CUDA: cannot allocate {} of pinned host memory: free memory of the host, or lower what "
        "`polartrain plan CONFIG` lists for it",
        format_bytes(bytes));
  }
  CUDA_CHECK(status);
  return memory;
}

void release_pinned(void* memory) noexcept {
  if (memory != nullptr) cudaFreeHost(memory);
}

Stream::Stream() {
  cudaStream_t stream = nullptr;
  CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  stream_.reset(stream);
}

void Stream::Destroy::operator()(cudaStream_t stream) const noexcept {
  cudaStreamDestroy(stream);
}

void Stream::synchronize() const {
  CUDA_CHECK(cudaStreamSynchronize(get()));
}

void Stream::wait(cudaEvent_t event) const {
  CUDA_CHECK(cudaStreamWaitEvent(get(), event, 0));
}

Event::Event(EventKind kind) {
  cudaEvent_t event = nullptr;
  const unsigned flags = kind == EventKind::timing ? cudaEventDefault : cudaEventDisableTiming;
  CUDA_CHECK(cudaEventCreateWithFlags(&event, flags));
  event_.reset(event);
}

void Event::Destroy::operator()(cudaEvent_t event) const noexcept {
  cudaEventDestroy(event);
}

void Event::record(const Stream& stream) const {
  CUDA_CHECK(cudaEventRecord(get(), stream.get()));
}

void Event::synchronize() const {
  CUDA_CHECK(cudaEventSynchronize(get()));
}

bool Event::done() const {
  const cudaError_t status = cudaEventQuery(get());
  if (status == cudaErrorNotReady) return false;
  CUDA_CHECK(status);
  return true;
}

float Event::milliseconds_since(const Event& begin) const {
  float milliseconds = 0.0F;
  CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin.get(), get()));
  return milliseconds;
}

// Other threads may go on making calls that a capture of this thread may not: they are not captured.
Graph::Capture::Capture(const Stream& stream) : stream_(stream) {
  CUDA_CHECK(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
}

Graph::Capture::~Capture() {
  if (!open_) return;
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream_.get(), &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();  // the capture was invalidated: what went wrong has been told
}

Graph Graph::Capture::finish() {
  cudaGraph_t graph = nullptr;
  open_ = false;
  CUDA_CHECK(cudaStreamEndCapture(stream_.get(), &graph));
  const Captured captured(graph);
  cudaGraphExec_t executable = nullptr;
  CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
  return Graph(Executable(executable));
}

void Graph::Destroy::operator()(cudaGraph_t graph) const noexcept {
  cudaGraphDestroy(graph);
}

void Graph::Destroy::operator()(cudaGraphExec_t graph) const noexcept {
  cudaGraphExecDestroy(graph);
}

void Graph::launch(const Stream& stream) const {
  CUDA_CHECK(cudaGraphLaunch(executable_.get(), stream.get()));
}

}  // namespace polar::cuda
