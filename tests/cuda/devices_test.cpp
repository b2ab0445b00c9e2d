// The CUDA backend finds the device; here it is the emulator's.
#include "backend/cuda/devices.h"

#include <gmock/gmock.h>

#include "cuda/both.h"

namespace polar::cuda {
namespace {

TEST(CudaDevices, AreDescribed) {  // the capability is that of the architecture the kernels were compiled for
  EXPECT_THAT(describe_devices(), testing::HasSubstr("device 0: emulated, compute capability"));
}

TEST(CudaDevices, ArraysGoThereAndBack) {
  test::Both both;
  for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
    const test::Pair pair = both.random(dtype, {3, 5}, 1);
    EXPECT_EQ(both.read_cuda(pair), both.read_cpu(pair));
  }
  const test::Pair integers = both.make(DType::i32, {2}, {-3, 7});
  EXPECT_EQ(both.read_cuda(integers), (test::Values{-3, 7}));
}

}  // namespace
}  // namespace polar::cuda
