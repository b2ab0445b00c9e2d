// The CUDA backend finds the device; here it is the emulator's.
#include "backend/cuda/devices.h"

#include <gmock/gmock.h>

namespace polar::cuda {
namespace {

TEST(CudaDevices, AreDescribed) {
  EXPECT_THAT(describe_devices(), testing::HasSubstr("device 0: emulated, compute capability 9.0"));
}

}  // namespace
}  // namespace polar::cuda
