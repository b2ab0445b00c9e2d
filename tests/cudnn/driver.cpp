// A libcuda.so.1 that accepts kernels and has no GPU: cuDNN, planning for a GPU that is not here, compiles
// its kernels and hands them to the driver, which is where a machine without one would stop. Whatever else is
// called says, like the toolkit's own stub, that there is no driver (34).
extern "C" {

#define ACCEPTS(name) \
  int name() {        \
    return 0;         \
  }
#define HAS_NO_DRIVER(name) \
  int name() {              \
    return 34;              \
  }
#define MAKES_SOMETHING(name) \
  int name(void** made) {     \
    static int something = 0; \
    *made = &something;       \
    return 0;                 \
  }

int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
ACCEPTS(cuInit)
MAKES_SOMETHING(cuLibraryLoadData)
MAKES_SOMETHING(cuLibraryGetKernel)
MAKES_SOMETHING(cuKernelGetFunction)
MAKES_SOMETHING(cuModuleLoadData)
MAKES_SOMETHING(cuModuleGetFunction)
ACCEPTS(cuLibraryUnload)
ACCEPTS(cuModuleUnload)
ACCEPTS(cuKernelGetAttribute)
ACCEPTS(cuKernelSetAttribute)
ACCEPTS(cuFuncGetAttribute)
ACCEPTS(cuFuncSetAttribute)
ACCEPTS(cuFuncLoad)
HAS_NO_DRIVER(cuGetErrorName)
HAS_NO_DRIVER(cuGetErrorString)
HAS_NO_DRIVER(cuGetProcAddress_v2)
HAS_NO_DRIVER(cuCtxGetCurrent)
HAS_NO_DRIVER(cuCtxGetLimit)
HAS_NO_DRIVER(cuCtxPopCurrent)
HAS_NO_DRIVER(cuCtxPushCurrent)
HAS_NO_DRIVER(cuStreamGetCtx)
HAS_NO_DRIVER(cuLinkCreate)
HAS_NO_DRIVER(cuLinkAddData)
HAS_NO_DRIVER(cuLinkComplete)
HAS_NO_DRIVER(cuLinkDestroy)
HAS_NO_DRIVER(cuLaunchKernel)
HAS_NO_DRIVER(cuLaunchKernelEx)
HAS_NO_DRIVER(cuLaunchCooperativeKernel)
HAS_NO_DRIVER(cuDeviceGetCount)
HAS_NO_DRIVER(cuDeviceGet)
HAS_NO_DRIVER(cuLibraryLoadFromFile)
HAS_NO_DRIVER(cuOccupancyMaxPotentialClusterSize)
HAS_NO_DRIVER(cuCtxGetDevice)
HAS_NO_DRIVER(cuDeviceGetAttribute)
HAS_NO_DRIVER(cuDevicePrimaryCtxRelease)
HAS_NO_DRIVER(cuDevicePrimaryCtxReset)
HAS_NO_DRIVER(cuDevicePrimaryCtxRetain)
HAS_NO_DRIVER(cuGetExportTable)
HAS_NO_DRIVER(cuLinkAddData_v2)
HAS_NO_DRIVER(cuLinkAddFile_v2)
HAS_NO_DRIVER(cuLinkCreate_v2)
HAS_NO_DRIVER(cuMemcpyDtoH_v2)
HAS_NO_DRIVER(cuModuleGetGlobal_v2)
HAS_NO_DRIVER(cuModuleLoadDataEx)
HAS_NO_DRIVER(cuModuleLoadFatBinary)
HAS_NO_DRIVER(cuOccupancyMaxActiveBlocksPerMultiprocessor)
HAS_NO_DRIVER(cuStreamSynchronize)
HAS_NO_DRIVER(cuTensorMapEncodeTiled)

}  // extern "C"
