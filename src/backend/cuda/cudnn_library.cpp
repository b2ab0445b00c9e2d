// cuDNN's functions, as far as its front end calls them, each passed on to the library that load_cudnn() has
// opened. A binary built this way starts where there is no cuDNN, and says what is missing when it is asked
// for. (The front end's own dynamic loading would also load a second CUDA runtime beside the one linked in.)
#include "backend/cuda/cudnn_library.h"

#include <cudnn.h>
#include <dlfcn.h>

#include "base/error.h"

namespace polar::cuda {
namespace {

void* library = nullptr;

// Sets `function` to the library's, once there is a library that has it.
template <class Function>
Function* find(Function*& function, const char* name) {
  if (function == nullptr && library != nullptr) function = reinterpret_cast<Function*>(dlsym(library, name));
  return function;
}

}  // namespace

std::string load_cudnn() {
  if (library != nullptr) return "";
  constexpr const char* kName = "libcudnn.so.9";
  library = dlopen(kName, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* why = dlerror();
    return fmt::format("no {} was found ({})", kName, why == nullptr ? "no reason given" : why);
  }
  if (cudnnGetVersion() < kOldestCudnn) return fmt::format("{} is older than 9.0", kName);
  return "";
}

}  // namespace polar::cuda

#define FIND(name)                           \
  static decltype(name)* function = nullptr; \
  polar::cuda::find(function, #name)
#define PASS_ON(name, ...) \
  FIND(name);              \
  return function == nullptr ? CUDNN_STATUS_NOT_INITIALIZED : function(__VA_ARGS__)

extern "C" {

size_t cudnnGetVersion() {
  FIND(cudnnGetVersion);
  return function == nullptr ? 0 : function();
}
const char* cudnnGetErrorString(cudnnStatus_t status) {
  FIND(cudnnGetErrorString);
  return function == nullptr ? "cuDNN is not loaded" : function(status);
}
void cudnnGetLastErrorString(char* message, size_t size) {
  FIND(cudnnGetLastErrorString);
  if (function != nullptr)
    function(message, size);
  else if (size > 0)
    message[0] = '\0';
}
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  PASS_ON(cudnnCreate, handle);
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  PASS_ON(cudnnDestroy, handle);
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  PASS_ON(cudnnSetStream, handle, stream);
}
cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  PASS_ON(cudnnGetStream, handle, stream);
}
cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* out) {
  PASS_ON(cudnnBackendCreateDescriptor, type, out);
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  PASS_ON(cudnnBackendDestroyDescriptor, descriptor);
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  PASS_ON(cudnnBackendFinalize, descriptor);
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  PASS_ON(cudnnBackendSetAttribute, descriptor, name, type, count, values);
}
cudnnStatus_t cudnnBackendGetAttribute(const cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                                       int64_t requested, int64_t* count, void* values) {
  PASS_ON(cudnnBackendGetAttribute, descriptor, name, type, requested, count, values);
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t variant_pack) {
  PASS_ON(cudnnBackendExecute, handle, plan, variant_pack);
}

// Never called; the front end names them, and an unoptimised build keeps that.
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* filter) {
  PASS_ON(cudnnCreateFilterDescriptor, filter);
}
cudnnStatus_t cudnnSetFilterNdDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int count, const int sizes[]) {
  PASS_ON(cudnnSetFilterNdDescriptor, filter, type, format, count, sizes);
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t filter) {
  PASS_ON(cudnnDestroyFilterDescriptor, filter);
}
cudnnStatus_t cudnnReorderFilterAndBias(cudnnHandle_t handle, const cudnnFilterDescriptor_t filter,
                                        cudnnReorderType_t type, const void* from, void* to, int has_bias,
                                        const void* bias_from, void* bias_to) {
  PASS_ON(cudnnReorderFilterAndBias, handle, filter, type, from, to, has_bias, bias_from, bias_to);
}

}  // extern "C"
