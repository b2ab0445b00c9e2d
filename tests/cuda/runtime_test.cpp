// What the user reads when CUDA refuses: call, place, status, what to do.
#include "backend/cuda/runtime.h"

#include <gmock/gmock.h>

#include "backend/cuda/devices.h"
#include "base/error.h"
#include "cuda/both.h"
#include "kernels/emulator/options.h"

namespace polar::cuda {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

template <class Body>
std::string message_of(const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(CudaRuntime, AStatusNamesCallPlaceAndHint) {
  const std::string message = message_of([] { CUDA_CHECK(cudaErrorInvalidValue); });
  EXPECT_THAT(message,
              AllOf(HasSubstr("CUDA: cudaErrorInvalidValue at runtime_test.cpp:"),
                    HasSubstr("gave cudaErrorInvalidValue ("), HasSubstr("a defect"), Not(HasSubstr("/"))));
}

TEST(CudaRuntime, LongCallsAreShownWithoutTheirArguments) {
  EXPECT_EQ(call_text("cudaFree(memory)"), "cudaFree(memory)");
  EXPECT_EQ(call_text(("launch(" + std::string(200, 'x') + ")").c_str()), "launch(...)");
}

TEST(CudaRuntime, OutOfMemorySaysWhatIsMissing) {
  CudaOps ops;
  const std::string message = message_of([&] { ops.allocate(size_t{1} << 40); });
  EXPECT_THAT(message, AllOf(HasSubstr("cannot allocate 1.0 TiB of GPU memory"), HasSubstr("are free"),
                             HasSubstr("batch.micro_sequences"), HasSubstr("train.recompute"),
                             HasSubstr("polartrain plan")));
  ops.release(ops.allocate(256));  // and the next allocation works
}

TEST(CudaRuntime, EventsOrderStreams) {
  const Stream first, second;
  const DeviceMemory memory = make_device_memory(sizeof(int));
  const Event written, begin(EventKind::timing), end(EventKind::timing);
  begin.record(first);
  CUDA_CHECK(cudaMemsetAsync(memory.get(), 0x11, sizeof(int), first.get()));
  written.record(first);
  second.wait(written.get());
  int value = 0;
  CUDA_CHECK(cudaMemcpyAsync(&value, memory.get(), sizeof(int), cudaMemcpyDeviceToHost, second.get()));
  second.synchronize();
  EXPECT_EQ(value, 0x11111111);
  EXPECT_TRUE(written.done());
  end.record(first);
  end.synchronize();
  EXPECT_GE(end.milliseconds_since(begin), 0.0F);
}

// upload has read and download has written when they return, also where streams do nothing before they have
// to.
TEST(CudaRuntime, UploadAndDownloadWait) {
  const bool before = emulator::options().lazy_streams;
  emulator::options().lazy_streams = true;
  {
    CudaOps ops;
    const Tensor x{ops.allocate(16), DType::f32, {4}};
    std::vector<float> values{1, 2, 3, 4};
    ops.upload(x, values.data());
    values.assign(4, 0.0F);
    ops.scale(x, 2.0);
    ops.download(values.data(), x);
    EXPECT_EQ(values, (std::vector<float>{2, 4, 6, 8}));
    void* pinned = ops.allocate_host(16);
    ops.download(pinned, x);
    EXPECT_EQ(static_cast<float*>(pinned)[3], 8.0F);
    ops.release_host(pinned);
    ops.release(x.data);
  }
  emulator::options().lazy_streams = before;
}

TEST(CudaDevices, ADeviceThatIsNotThereIsSaid) {
  EXPECT_TRUE(check_device(0).usable);
  EXPECT_THAT(check_device(7).found, HasSubstr("no GPU 7: this process sees 1"));
}

TEST(CudaDevices, MakeOpsFindsTheDevice) {
  EXPECT_THAT(make_ops({.device = "cuda"})->device_name(), HasSubstr("cuda: emulated"));
  EXPECT_THAT(make_ops({.device = "auto"})->device_name(), HasSubstr("cuda: emulated"));
  EXPECT_THAT(make_ops({.device = "cpu"})->device_name(), HasSubstr("cpu: "));
}

}  // namespace
}  // namespace polar::cuda
