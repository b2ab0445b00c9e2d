#include "backend/cuda/library.h"

#include <dlfcn.h>

namespace polar::cuda {

Library::Library(const char* name) : handle_(dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
  if (handle_ != nullptr) return;
  const char* why = dlerror();
  why_ = why == nullptr ? name : why;
}

void* Library::address(const char* symbol) const {
  return dlsym(handle_, symbol);
}

}  // namespace polar::cuda
